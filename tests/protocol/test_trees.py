"""Merkle trees: roots, proofs, and that the incremental tree equals the definition."""

import hashlib

import pytest
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from protocol.rows import prompt_root, row_leaf
from protocol.trees import BatchTree, RowTree, row_tree_root, verify_batch_proof


def rfc6962(leaves: list[bytes]) -> bytes:
    """Section 2.1, written as it is defined: the left subtree is the largest power of two below the count."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + rfc6962(leaves[:split]) + rfc6962(leaves[split:])).digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_row_tree__any_leaves__is_rfc6962(leaves: list[bytes]) -> None:
    assert row_tree_root(leaves) == rfc6962(leaves)


def test_row_tree__root_in_between__does_not_disturb() -> None:
    tree = RowTree()
    for i in range(20):
        tree.append(bytes([i]))
        assert tree.root() == rfc6962([bytes([k]) for k in range(i + 1)])


@given(st.integers(1, 40), st.data())
def test_batch_tree__every_leaf__has_a_proof_and_no_other_does(count: int, data: st.DataObject) -> None:
    receipts = [keccak(bytes([i])) for i in range(count)]
    tree = BatchTree(receipts)
    index = data.draw(st.integers(0, count - 1))
    assert verify_batch_proof(tree.root, receipts[index], tree.proof(index))
    assert not verify_batch_proof(tree.root, keccak(b"other"), tree.proof(index))


def test_batch_tree__empty_or_outside__is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BatchTree([])
    with pytest.raises(IndexError, match="outside a batch of 1"):
        BatchTree([keccak(b"a")]).proof(1)


def test_row_leaf__any_field_changed__changes_the_leaf() -> None:
    base = (b"s" * 32, 10, 3, "float32", b"row")
    leaves = {row_leaf(*base)}
    for change in ((b"t" * 32, *base[1:]), (base[0], 11, *base[2:]), (*base[:2], 4, *base[3:]), (*base[:3], "bfloat16", b"row"), (*base[:4], b"rov")):
        leaves.add(row_leaf(*change))
    assert len(leaves) == 6


def test_prompt_root__order__matters() -> None:
    assert prompt_root(b"s" * 32, [1, 2]) != prompt_root(b"s" * 32, [2, 1])
