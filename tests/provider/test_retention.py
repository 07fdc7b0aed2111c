"""Rows stay as long as somebody may ask for them and no longer; a full disk refuses new work and drops nothing that is owed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol import Reverted
from protocol.chain import abi
from protocol.receipts import StageReceipt, Voucher
from protocol.trees import batch_leaf
from protocol.typed import Signed
from protocol.vectors import counted
from provider import Refused
from provider.evidence import EvidenceStore
from provider.ledger import Ledger
from provider.retention import Retention

DRAW, DISPUTE = 100, 1_000
PROVIDER = "0x" + "11" * 20


class Clock:
    """Where a chain stands: the time, the batches that it has, the receipts that were pinned on it."""

    def __init__(self) -> None:
        self.now, self.anchored, self.first_kept = 0, {0: 0}, 0
        self.pinned: set[bytes] = set()

    def clock(self) -> int:
        return self.now

    def call(self, contract: str, function: str, *arguments: Any) -> Any:
        match function:
            case "pinWindow":
                return DRAW
            case "retention":
                return DISPUTE
            case "batchCount":
                return len(self.anchored)
            case "pinnedUntil":
                return self.anchored[arguments[1]] + DISPUTE if arguments[2] in self.pinned else 0
        assert function == "batch"
        if arguments[1] not in self.anchored or arguments[1] < self.first_kept:
            raise Reverted("batch", "NoSuchBatch")
        fields = next(e for e in abi(contract) if e.get("name") == "batch")["outputs"][0]["components"]
        return [self.anchored[arguments[1]] if field["name"] == "anchoredAt" else 0 for field in fields]


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Retention, Clock]:
    """Three receipts in one batch, each with rows on disk."""
    ledger, evidence, clock = Ledger(tmp_path / "provider.db"), EvidenceStore(tmp_path / "evidence", 10_000), Clock()
    for number in (1, 2, 3):
        receipt, voucher = replace(counted(StageReceipt, 1), number=number), counted(Voucher, 1)
        folder = evidence.root / f"folder{number}"
        folder.mkdir()
        (folder / "in.rows").write_bytes(b"x" * 1_000)
        ledger.add_receipt(receipt, Signed.of(receipt, b"r" * 65), Signed({}, ""), folder.name, voucher, Signed.of(voucher, b"v" * 65))
    ledger.record_batch(0, 1, 3, bytes(32))
    return Retention(clock, ledger, evidence, PROVIDER), clock  # type: ignore[arg-type]


def left(retention: Retention) -> list[str]:
    return sorted(folder.name for folder in retention.evidence.root.iterdir())


def test_sweep__windows__rows_go_when_nobody_can_ask_for_them(kept: tuple[Retention, Clock]) -> None:
    retention, clock = kept
    clock.now = DRAW
    assert retention.sweep() == 0
    retention.ledger.pin(1)
    second = retention.ledger.receipt(2)
    assert second is not None
    clock.pinned.add(batch_leaf(second.receipt.struct_hash()))
    clock.now = DRAW + 1
    assert retention.sweep() == 1
    assert left(retention) == ["folder1", "folder2"]
    clock.now = DISPUTE
    assert retention.sweep() == 0
    clock.now = DISPUTE + 1
    assert retention.sweep() == 2
    assert left(retention) == []
    assert retention.sweep() == 0


def test_sweep__restarted__knows_what_is_pinned(kept: tuple[Retention, Clock]) -> None:
    retention, clock = kept
    retention.ledger.pin(3)
    retention.ledger.close()
    again = Ledger(retention.evidence.root.parent / "provider.db")
    clock.now = DRAW + 1
    assert Retention(clock, again, retention.evidence, PROVIDER).sweep() == 2  # type: ignore[arg-type]
    assert left(retention) == ["folder3"]


def test_sweep__batch_lost_in_a_reorg__drops_nothing(kept: tuple[Retention, Clock]) -> None:
    retention, clock = kept
    clock.now, clock.anchored = 10 * DISPUTE, {}
    assert retention.sweep() == 0


def test_sweep__batch_written_over__is_long_past_its_windows(kept: tuple[Retention, Clock]) -> None:
    retention, clock = kept
    retention.ledger.pin(1)
    clock.now, clock.first_kept = 10 * DISPUTE, 1
    assert retention.sweep() == 3


def test_budget__used_up__refuses_new_sessions_until_rows_go(kept: tuple[Retention, Clock]) -> None:
    retention, clock = kept
    retention.evidence.require_room()
    small = EvidenceStore(retention.evidence.root, 3_000)
    with pytest.raises(Refused, match=r"3,000 of 3,000 bytes.*FUNCNET_EVIDENCE_BYTES"):
        small.require_room()
    clock.now = DRAW + 1
    sweeper = Retention(clock, retention.ledger, small, PROVIDER)  # type: ignore[arg-type]
    sweeper.sweep()
    small.require_room()
    # What sessions have written since is counted at the next sweep.
    (small.root / "new").mkdir()
    (small.root / "new" / "out.rows").write_bytes(b"x" * 3_000)
    sweeper.sweep()
    with pytest.raises(Refused):
        small.require_room()
