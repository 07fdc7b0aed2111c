"""Merkle trees: RFC 6962 over SHA-256 for rows and manifests, sorted-pair keccak for what a contract checks."""

import hashlib
from collections.abc import Iterable, Sequence

from eth_hash.auto import keccak

EMPTY_ROOT = hashlib.sha256(b"").digest()


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class RowTree:
    """An append-only RFC 6962 tree that keeps only its right edge: appending is O(1) amortised, a root O(log n)."""

    def __init__(self) -> None:
        self._edge: list[tuple[int, bytes]] = []
        self.count = 0

    def append(self, data: bytes) -> None:
        size, digest = 1, _leaf(data)
        while self._edge and self._edge[-1][0] == size:
            size, digest = size * 2, _node(self._edge.pop()[1], digest)
        self._edge.append((size, digest))
        self.count += 1

    def extend(self, rows: Iterable[bytes]) -> None:
        for row in rows:
            self.append(row)

    def root(self) -> bytes:
        """The root over all rows so far; that of no rows is SHA-256 of nothing."""
        if not self._edge:
            return EMPTY_ROOT
        digest = self._edge[-1][1]
        for _, left in reversed(self._edge[:-1]):
            digest = _node(left, digest)
        return digest


def row_tree_root(rows: Iterable[bytes]) -> bytes:
    """The RFC 6962 root over the given leaves."""
    tree = RowTree()
    tree.extend(rows)
    return tree.root()


def _pair(left: bytes, right: bytes) -> bytes:
    return keccak(min(left, right) + max(left, right))


class BatchTree:
    """A keccak tree over 32-byte leaves with sorted pairs, as OpenZeppelin's MerkleProof checks it.

    A receipt's leaf is its struct hash hashed once more, so that an inner node can never pass for a leaf; position needs no proof because
    the receipt carries its number.
    """

    def __init__(self, receipts: Sequence[bytes]) -> None:
        if not receipts:
            raise ValueError("a batch holds at least one receipt")
        self.levels = [[batch_leaf(receipt) for receipt in receipts]]
        while len(level := self.levels[-1]) > 1:
            pairs = [_pair(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            self.levels.append(pairs + ([level[-1]] if len(level) % 2 else []))

    @property
    def root(self) -> bytes:
        return self.levels[-1][0]

    def proof(self, index: int) -> list[bytes]:
        """The siblings from leaf to root. Raises IndexError outside the batch."""
        if not 0 <= index < len(self.levels[0]):
            raise IndexError(f"leaf {index} lies outside a batch of {len(self.levels[0])}")
        path = []
        for level in self.levels[:-1]:
            if (sibling := index ^ 1) < len(level):
                path.append(level[sibling])
            index //= 2
        return path


def batch_leaf(receipt_hash: bytes) -> bytes:
    """The leaf of a receipt in its provider's batch."""
    return keccak(receipt_hash)


def verify_batch_proof(root: bytes, receipt_hash: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the receipt lies under the root."""
    digest = batch_leaf(receipt_hash)
    for sibling in proof:
        digest = _pair(digest, sibling)
    return digest == root
