"""Rules and the fold: pure, so table tests."""

from typing import Any

import pytest

from indexer.decode import Event
from indexer.facts import KINDS, Constants, FactKey, Fold, Version, join_key, touches
from indexer.rules import RULES
from indexer.views import VIEWS, unviewed
from protocol.chain import CONTRACTS, abi

CONSTANTS = Constants(genesis=1000, epoch_length=100, thaw_period=50)
A, B = "0x" + "aA" * 20, "0x" + "bB" * 20


def event(name: str, args: dict[str, Any], block: int = 1, log: int = 0) -> Event:
    contract, _, name = name.partition(".")
    return Event(block, "0x", None, log, "0x", contract, name, None, args)


def fold(*events: Event, times: dict[int, int] | None = None) -> Fold:
    folded = Fold({})
    for touch in touches(events, times or {n: 1000 + 10 * n for n in range(10)}, CONSTANTS, RULES):
        folded.apply(touch)
    return folded


def test_rules__each_names_an_event_that_there_is() -> None:
    known = {f"{contract}.{entry['name']}" for contract in CONTRACTS for entry in abi(contract) if entry.get("type") == "event"}
    assert set(RULES) <= known


UNTOLD = {
    "ModelRegistry.ModelCommitted",
    "Plants.VerifierAsked",
    "Pins.Pinned",
    "PaymentEscrow.Paid",
    "Settlement.PotRolledOver",
    "Attendance.Attended",
    "Attendance.RoundLapsed",
    "FuncToken.Approval",
    "FuncToken.EIP712DomainChanged",
}
"""Events that change no fact; /v1/events shows them all the same."""


def test_rules__every_event_of_ours__changes_a_fact_or_is_listed_as_changing_none() -> None:
    governance = {"AccessManager", "TimelockController"}
    ours = {f"{c}.{e['name']}" for c in CONTRACTS if c not in governance for e in abi(c) if e.get("type") == "event"}
    common = {"FunctionPaused", "AuthorityUpdated", "ParametersSet", "EIP712DomainChanged", "Initialized", "TermsSet"}
    assert {name for name in ours - set(RULES) if name.partition(".")[2] not in common} == UNTOLD - {"FuncToken.EIP712DomainChanged"}


def test_kinds__without_a_view__are_sums_or_said_by_events_alone() -> None:
    assert set(unviewed(list(KINDS))) == {
        "gpu",
        "delegation",
        "slash",
        "batch",
        "reward",
        "epoch_reward",
        "epoch_usage",
        "day_usage",
        "set",
        "committee",
        "plant",
        "owed",
        "contradiction",
    }
    assert all(name in KINDS[view.kind] for view in VIEWS for name in view.args)


def test_fold__two_blocks__leaves_a_version_each() -> None:
    folded = fold(
        event("Staking.Staked", {"account": A, "from": A, "amount": "5", "active": "5"}),
        event("Staking.Staked", {"account": A, "from": A, "amount": "2", "active": "7"}, log=3),
        event("Staking.Staked", {"account": A, "from": A, "amount": "1", "active": "8"}, block=4),
    )
    assert folded.written[FactKey("stake", A)] == [
        Version(1, 3, {"account": A, "active": "7"}, until=4),
        Version(4, 0, {"account": A, "active": "8"}),
    ]
    assert folded.current[FactKey("network", "")] == {"staked": "8"}


def test_fold__event_that_changes_nothing__makes_no_version() -> None:
    jailed = event("ProviderRegistry.ProviderUnjailed", {"provider": A})
    assert list(fold(jailed, jailed._replace(block_number=2)).written[FactKey("provider", A)]) == [Version(1, 0, {"provider": A, "jailedUntil": 0})]


def test_fold__payout__is_a_reward_of_each_who_is_paid_and_no_other() -> None:
    parts = {"provider": "70", "royalty": "0", "verifiers": "10", "treasury": "10", "burned": "5"}
    payout = {"amount": "95", "royaltyTo": B, "epoch": 0, "delegators": "20", "held": "3", "parts": parts}
    folded = fold(event("Settlement.Released", {"provider": A, "modelId": "0x01", "payout": payout}))
    rewards = {key.key: versions[-1].value["amount"] for key, versions in folded.written.items() if key.kind == "reward"}
    assert rewards == {f"{A}/provider": "50", f"{A}/delegators": "20"}
    assert folded.current[FactKey("epoch_reward", f"000000000000/{A}/provider")]["amount"] == "50"
    assert folded.current[FactKey("held", f"{A}/0x01")]["held"] == "3"


def limited(reserved: str = "60", balance: str = "40") -> Event:
    terms = {"amountPerPeriod": "100", "period": 30, "expiry": 2000, "models": [], "reserved": reserved, "balance": balance}
    return event("PaymentEscrow.LimitSet", {"payer": A, "gateway": B, **terms})


def redeemed(delta: int, block: int = 2, log: int = 1) -> Event:
    redemption = {"gateway": B, "delta": str(delta), "redeemed": str(delta)}
    return event("Settlement.VoucherRedeemed", {"provider": A, "payer": A, "modelId": "0x01", "redemption": redemption}, block, log)


@pytest.mark.parametrize(
    ("bond", "delta", "reserved", "room", "balance"),
    [(0, 50, 10, 40, 40), (0, 60, 0, 40, 40), (0, 80, 0, 20, 20), (0, 100, 0, 0, 0), (30, 90, 0, 40, 40), (30, 30, 60, 40, 40)],
)
def test_redemption__takes_the_reserve_then_the_balance_and_leaves_the_bond_its_own(
    bond: int, delta: int, reserved: int, room: int, balance: int
) -> None:
    added = event("PaymentEscrow.BondAdded", {"gateway": B, "amount": "500", "balance": "500"})
    debit = [event("PaymentEscrow.BondDebited", {"gateway": B, "provider": A, "amount": str(bond), "balance": str(500 - bond)}, 2)] if bond else []
    current = fold(limited(), added, *debit, redeemed(delta)).current
    limit = current[FactKey("limit", f"{A}/{B}")]
    assert (int(limit["reserved"]), int(limit["room"])) == (reserved, room)
    assert int(current[FactKey("deposit", A)]["balance"]) == balance
    assert "debited" not in current[FactKey("bond", B)]


def test_authorisation__where_signatures_are_required__counts_what_the_payer_gave() -> None:
    required = event("PaymentEscrow.SignaturesRequired", {"payer": A, "gateway": B, "required": True})
    signed = event("PaymentEscrow.Authorised", {"payer": A, "gateway": B, "cumulative": "70"})
    key = FactKey("authorisation", f"{A}/{B}")
    found = fold(required, limited(), signed, redeemed(50)).current[key]
    assert (found["required"], found["cumulative"], found["taken"]) == (True, "70", "50")
    found = fold(limited(), signed, redeemed(50)).current[key]
    assert (found["required"], found["cumulative"], found["taken"]) == (False, "70", "0")
    assert key not in fold(limited(), redeemed(50)).written


def test_limit__reserve_of_a_later_period__begins_that_period_and_taken_back_does_not() -> None:
    taken = event("PaymentEscrow.ReserveTaken", {"payer": A, "gateway": B, "reserved": "100", "balance": "0"}, 9)
    key = FactKey("limit", f"{A}/{B}")
    limit = fold(limited(), taken, times={1: 1010, 9: 1105}).current[key]
    assert (limit["periodEnd"], limit["room"]) == (1010 + 30 * 4, "0")
    back = event("PaymentEscrow.ReserveTaken", {"payer": A, "gateway": B, "reserved": "0", "balance": "100"}, 9)
    limit = fold(limited(), back, times={1: 1010, 9: 2050}).current[key]
    assert (limit["periodEnd"], limit["reserved"], limit["room"]) == (1040, "0", "40")


def test_join_key__numbers__sort_as_numbers() -> None:
    assert join_key((7, A)) < join_key((10, A)) < join_key(("123456789", A))
    assert join_key(("0x01", "2026-11-26")) == "0x01/2026-11-26"


@pytest.mark.parametrize(("time", "epoch"), [(999, 0), (1000, 0), (1099, 0), (1100, 1), (5000, 40)])
def test_constants__epoch_of_a_time(time: int, epoch: int) -> None:
    assert CONSTANTS.epoch(time) == epoch
