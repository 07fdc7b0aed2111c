"""Whom a gateway asks for checks, and what it makes of the answers."""

from typing import Any

import pytest

from api import NoRoute
from api.checks import Checks, Finding, Seller
from api.jobs import Unverified, first_fault
from protocol.receipts import StageReceipt
from protocol.typed import Signed
from protocol.units import FUNC
from protocol.vectors import counted

MODEL, OTHER = b"m" * 32, b"o" * 32


def checks_of(*prices: int, model: bytes = MODEL) -> Checks:
    nothing: Any = None
    known = [Seller(f"0x{i}", "http://127.0.0.1:1", price, frozenset({model})) for i, price in enumerate(prices)]
    return Checks(nothing, nothing, nothing, known)


async def test_sellers__of_many__are_drawn_among_those_no_dearer_than_the_median() -> None:
    checks, drawn = checks_of(1, 2, 3, 40, 50), set[str]()
    for _ in range(200):
        sellers = await checks.sellers(MODEL, None)
        assert len(sellers) == len({seller.verifier for seller in sellers}) == 3
        drawn.add(sellers[0].verifier)
    assert drawn == {"0x0", "0x1", "0x2"}
    assert checks.price(MODEL) == 1


async def test_sellers__one_that_asks_nothing__does_not_get_all_the_work() -> None:
    checks = checks_of(0, 100, 100)
    assert {(await checks.sellers(MODEL, None))[0].verifier for _ in range(200)} == {"0x0", "0x1", "0x2"}


async def test_sellers__too_dear__is_told_with_what_they_ask() -> None:
    with pytest.raises(NoRoute, match=r"3.000000 FUNC for a million rows.*2.000000 FUNC were to be paid") as caught:
        await checks_of(3 * FUNC, 5 * FUNC).sellers(MODEL, 2 * FUNC)
    assert caught.value.code == "no_verifier"


async def test_sellers__of_other_models__are_none() -> None:
    checks = checks_of(1, model=OTHER)

    async def nobody() -> None:
        checks.known = []

    checks.refresh = nobody  # type: ignore[method-assign]
    with pytest.raises(NoRoute, match="no verifier sells checks of this model"):
        await checks.sellers(MODEL, None)


RECEIPTS: list[StageReceipt] = [counted(StageReceipt, i) for i in (1, 2, 3)]
SIGNED = [Signed.of(receipt, b"s" * 65) for receipt in RECEIPTS]


def fault_of(*verdicts: str) -> Unverified | None:
    """Of three stages; a missing verdict is that of a stage that nobody was asked about."""
    return first_fault(SIGNED, [Finding(receipt, verdict, signed, {}) for receipt, signed, verdict in zip(RECEIPTS, SIGNED, verdicts, strict=False)])


def test_fault__all_passed__is_none() -> None:
    assert fault_of("PASS", "PASS", "PASS") is None


@pytest.mark.parametrize(
    ("verdicts", "named", "is_lie"),
    [
        (("INCONCLUSIVE", "FAIL", "PASS"), 1, True),
        (("WITHHELD", "FAIL", "PASS"), 0, True),
        (("PASS", "INCONCLUSIVE", "PASS"), 1, False),
        (("PASS", "PASS"), 2, False),
        ((), 0, False),
    ],
)
def test_fault__not_all_passed__names_the_stage__a_lie_before_a_doubt(verdicts: tuple[str, ...], named: int, is_lie: bool) -> None:
    fault = fault_of(*verdicts)
    assert fault is not None
    assert (fault.provider, fault.is_lie) == (RECEIPTS[named].provider, is_lie)
