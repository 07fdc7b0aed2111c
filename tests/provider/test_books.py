"""The agent's books: what is acknowledged is on disk, numbers never repeat, vouchers only grow."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from protocol import SettingsError
from protocol.receipts import Checkpoint, SessionOffer, StageReceipt, Voucher
from protocol.typed import Domain, Signed
from protocol.vectors import counted
from provider import Refused
from provider.app import lock_data_dir
from provider.backing import Backing
from provider.ledger import Ledger, stream_of
from provider.tls import ensure_certificate

VOUCHER: Voucher = counted(Voucher, 1)
CHECKPOINT = Signed.of(counted(Checkpoint, 1), b"c" * 65)


def add(ledger: Ledger, number: int, cumulative: int) -> None:
    receipt = replace(counted(StageReceipt, 1), number=number, amount=10)
    voucher = replace(VOUCHER, cumulative=cumulative)
    ledger.add_receipt(receipt, Signed.of(receipt, b"r" * 65), CHECKPOINT, f"folder{number}", voucher, Signed.of(voucher, b"v" * 65))


def test_ledger__reopened__has_everything(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "provider.db")
    add(ledger, 1, 10)
    add(ledger, 2, 2**100)
    ledger.close()
    again = Ledger(tmp_path / "provider.db")
    assert again.next_number() == 3
    assert again.standing(stream_of(VOUCHER)) == (2**100, 20)
    assert [entry.number for entry in again.unanchored()] == [1, 2]


def test_ledger__session__begins_once_for_good(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "provider.db")
    assert ledger.begin_session("job-0-10")
    ledger.close()
    again = Ledger(tmp_path / "provider.db")
    assert not again.begin_session("job-0-10")
    assert again.begin_session("job-1-10")


def test_ledger__number_used_before__is_refused_and_the_voucher_does_not_move(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "provider.db")
    add(ledger, 1, 10)
    with pytest.raises(sqlite3.IntegrityError):
        add(ledger, 1, 99)
    assert ledger.standing(stream_of(VOUCHER)) == (10, 10)


def test_ledger__later_voucher_first__the_higher_is_kept_and_both_receipts_count(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "provider.db")
    add(ledger, 1, 20)
    add(ledger, 2, 10)
    assert ledger.standing(stream_of(VOUCHER)) == (20, 20)
    assert [voucher.cumulative for voucher, _, _ in ledger.unredeemed()] == [20]


def test_check_voucher__later_one_first__the_earlier_is_still_covered_and_nothing_is_paid_twice(tmp_path: Path) -> None:
    ledger, account = Ledger(tmp_path / "provider.db"), Account.create()
    domain = Domain("Settlement", 31337, account.address)
    backing = Backing(None, ledger, domain)  # type: ignore[arg-type]  # checking a voucher asks no chain
    stream = replace(VOUCHER, gateway=account.address)
    offer = replace(counted(SessionOffer, 1), payer=stream.payer, gateway=stream.gateway, provider=stream.provider, model_id=stream.model_id)

    def check(cumulative: int) -> None:
        voucher = replace(stream, cumulative=cumulative)
        backing.check_voucher(voucher, Signed.of(voucher, voucher.sign(domain, bytes(account.key))), offer, 10)

    check(20)
    receipt, voucher = replace(counted(StageReceipt, 1), number=1, amount=10), replace(stream, cumulative=20)
    ledger.add_receipt(receipt, Signed.of(receipt, b"r" * 65), CHECKPOINT, "folder", voucher, Signed.of(voucher, b"v" * 65))
    check(10)
    ledger.add_receipt(replace(receipt, number=2), Signed.of(receipt, b"r" * 65), CHECKPOINT, "folder2", voucher, Signed.of(voucher, b"v" * 65))
    with pytest.raises(Refused, match="do not cover the 20 of earlier receipts"):
        check(20)
    check(30)


def test_ledger__anchored__leaves_the_waiting_list(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "provider.db")
    add(ledger, 1, 10)
    add(ledger, 2, 20)
    ledger.record_batch(0, 1, 2, b"root")
    assert ledger.unanchored() == []
    assert ledger.batch_range(0) == (1, 2)
    assert ledger.batch_range(1) is None
    assert ledger.unreleased_batches() == [0]
    ledger.mark_released(0)
    assert ledger.unreleased_batches() == []


def test_ledger__redeemed_in_part__leaves_the_rest_outstanding(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "provider.db")
    add(ledger, 1, 30)
    ledger.mark_redeemed(VOUCHER, 12)
    assert [rest for _, _, rest in ledger.unredeemed()] == [18]
    ledger.mark_redeemed(VOUCHER, 30)
    assert ledger.unredeemed() == []


def test_lock_data_dir__second_agent__is_refused(tmp_path: Path) -> None:
    held = lock_data_dir(tmp_path)
    with pytest.raises(SettingsError, match="another provider-agent"):
        lock_data_dir(tmp_path)
    held.close()
    lock_data_dir(tmp_path).close()


def test_certificate__made_once__stays_and_its_key_is_private(tmp_path: Path) -> None:
    key, _, digest = ensure_certificate(tmp_path)
    assert key.stat().st_mode & 0o777 == 0o600
    assert ensure_certificate(tmp_path)[2] == digest
