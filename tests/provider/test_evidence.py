"""Rows are hashed some at a time; what a stage signs is the root over all of them."""

from pathlib import Path

from protocol.rows import CHECKPOINT_EVERY, row_leaf
from protocol.trees import EMPTY_ROOT, row_tree_root
from provider.evidence import RowHashes, RowLog

SALT, BOUNDARY, DTYPE = b"s" * 32, 10, "float32"


def rows(count: int) -> list[bytes]:
    return [position.to_bytes(4, "little") for position in range(count)]


def root_of(payloads: list[bytes], first: int = 0) -> bytes:
    return row_tree_root([row_leaf(SALT, BOUNDARY, first + i, DTYPE, payload) for i, payload in enumerate(payloads)])


def test_row_hashes__a_root_after_any_number_of_rows__covers_all_of_them() -> None:
    for count in range(2 * CHECKPOINT_EVERY + 3):
        hashes = RowHashes(SALT, BOUNDARY, DTYPE)
        for payload in rows(count):
            hashes.append(payload)
        assert (hashes.count, hashes.end, hashes.root()) == (count, count, root_of(rows(count)))
    assert RowHashes(SALT, BOUNDARY, DTYPE).root() == EMPTY_ROOT


def test_row_hashes__roots_in_between__change_none_that_follows() -> None:
    hashes, payloads = RowHashes(SALT, BOUNDARY, DTYPE), rows(70)
    for count, payload in enumerate(payloads, 1):
        hashes.append(payload)
        if count % 7 == 0:
            assert hashes.root() == root_of(payloads[:count])
    assert hashes.root() == root_of(payloads)


def test_row_hashes__of_a_segment__positions_begin_with_its_first() -> None:
    hashes = RowHashes(SALT, BOUNDARY, DTYPE, first=40)
    for payload in rows(35):
        hashes.append(payload)
    assert (hashes.count, hashes.end, hashes.root()) == (35, 75, root_of(rows(35), first=40))


def test_row_log__rows_are_in_the_file_and_under_the_root(tmp_path: Path) -> None:
    with (tmp_path / "in.rows").open("xb") as file:
        log = RowLog(SALT, BOUNDARY, DTYPE, file=file)
        for payload in rows(33):
            log.append(payload)
    assert (tmp_path / "in.rows").read_bytes() == b"".join(rows(33))
    assert log.root() == root_of(rows(33))
