"""What a standby keeps of others' sessions, and how much of it a session may use."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inference.portable import BLOCK_ROWS, ROWS_OUT, BlockHashes, KvBlocks
from protocol.units import LayerRange
from provider import Refused
from provider.shipping import Importing
from provider.standby import IDLE_SECONDS, Standby

LAYERS, MODEL_ID = LayerRange(0, 1), bytes(32)


def rows(count: int, seed: int = 0) -> list[bytes]:
    return [bytes([seed, i]) for i in range(count)]


def blocks(first: int, count: int, seed: int = 0) -> KvBlocks:
    hashes = BlockHashes(MODEL_ID, LAYERS, "float32")
    hashes.add(rows(first + count, seed))
    positions = torch.arange(first, first + count, dtype=torch.float32)
    tensors = {"layers.0.keys": positions.repeat(2, 1)[..., None], "layers.0.values": positions.repeat(2, 1)[..., None], ROWS_OUT: positions[:, None]}
    return KvBlocks(MODEL_ID, LAYERS, "float32", first, tuple(hashes.found[first // BLOCK_ROWS :]), tensors)


def standby(budget: int = 100) -> Standby:
    nobody: Any = None
    return Standby(nobody, nobody, (), MODEL_ID, LAYERS, "float32", {}, budget)


def order(job: bytes, first_position: int = 64) -> Any:
    return SimpleNamespace(job_id=job, first_position=first_position)


def test_keep__more_than_the_budget__the_job_heard_of_longest_ago_goes() -> None:
    kept = standby(100)
    for job in (b"a", b"b"):
        kept._keep(job, blocks(0, 16), 40)
    kept._keep(b"a", blocks(16, 16), 10)
    kept._keep(b"c", blocks(0, 16), 40)
    assert kept.of(order(b"b")) is None
    assert kept.of(order(b"a")) is not None
    assert kept.size == 40


def test_keep__one_job_beyond_the_budget__is_refused_and_dropped() -> None:
    kept = standby(100)
    kept._keep(b"a", blocks(0, 16), 60)
    with pytest.raises(Refused, match="110 bytes for one job, 100 are kept"):
        kept._keep(b"a", blocks(16, 16), 50)
    assert kept.size == 0


def test_keep__a_gap__is_refused_and_what_was_there_stays() -> None:
    kept = standby()
    kept._keep(b"a", blocks(0, 16), 10)
    for first in (0, 32):
        with pytest.raises(Refused, match=f"rows from {first} on came, those from 16 on are missing"):
            kept._keep(b"a", blocks(first, 16), 10)
    assert kept.size == 10


def test_keep__no_news_for_long__is_dropped() -> None:
    kept = standby()
    kept._keep(b"a", blocks(0, 16), 10)
    kept._held[b"a"].touched -= IDLE_SECONDS + 1
    kept._keep(b"b", blocks(0, 16), 10)
    assert kept.of(order(b"a")) is None


def test_of__a_job_from_its_beginning__uses_nothing() -> None:
    kept = standby()
    kept._keep(b"a", blocks(0, 16), 10)
    assert kept.of(order(b"a", first_position=0)) is None
    assert kept.size == 0


@pytest.mark.parametrize(("until", "usable"), [(64, 48), (40, 40), (8, 8)])
def test_importing__rows_that_are_the_same__are_used_up_to_what_is_its_own(until: int, usable: int) -> None:
    importing = Importing([blocks(0, 32), blocks(32, 16)], BlockHashes(MODEL_ID, LAYERS, "float32"), until)
    assert importing.ready(0) == 0
    importing.hashes.add(rows(48))
    assert importing.ready(0) == usable
    assert importing.ready(usable) == 0
    found = importing.rows(2, 3)
    assert found[ROWS_OUT][:, 0].tolist() == [2, 3, 4]
    assert found["layers.0.keys"][1, :, 0].tolist() == [2, 3, 4]


def test_importing__rows_that_differ__are_run_from_their_block_on() -> None:
    importing = Importing([blocks(0, 48)], BlockHashes(MODEL_ID, LAYERS, "float32"), 64)
    importing.hashes.add([*rows(20), b"other", *rows(48)[21:]])
    assert importing.ready(0) == 16
