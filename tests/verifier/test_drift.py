"""Drift: what a little in check after check adds up to, counted once, and only ever a reason to look."""

from contextlib import closing

import numpy as np
import pytest
from eth_account import Account

from funcnet.network import Network
from protocol.database import migrate, open_pool
from protocol.duties import VOLUNTARY_FACTOR, is_drawn, may_volunteer
from protocol.wire import VOLUNTARY
from verifier.drift import ALARM, cusum
from verifier.store import CheckKey, Drawn, Store

PROVIDER = "0x" + "22" * 20
DETAIL = {"stage": "0-10/bfloat16", "score": 4.0}


def checks_to_alarm(shift: float, most: int) -> int:
    source, total = np.random.default_rng(1), 0.0
    for checks in range(1, most + 1):
        total = cusum(total, shift + source.standard_normal())
        if total >= ALARM:
            return checks
    return most


def test_cusum__honest_spread__never_alarms__and_a_lasting_shift_does() -> None:
    assert checks_to_alarm(0.0, 20_000) == 20_000
    assert checks_to_alarm(0.5, 2_000) == 2_000
    assert checks_to_alarm(3.0, 100) < 10


def test_cusum__one_bad_check__is_no_drift() -> None:
    assert cusum(0.0, 1e9) < ALARM


def test_finish__twice__counts_once_and_distrusts_from_the_alarm_on(small: Network) -> None:
    migrate(small.database_url, "verifier")
    with closing(open_pool(small.database_url)) as pool:
        store = Store(pool, Account.create().address)
        store.add_epoch(1, b"s", [Drawn(PROVIDER, 0, n, bytes(32), [], voluntary=n > 3) for n in range(1, 5)])
        for n in range(1, 4):
            for _ in range(2):
                store.finish(CheckKey(PROVIDER, n), "PASS", DETAIL)
        assert store.distrusted() == set()  # 3 checks of 3 each: twice each would be an alarm
        store.finish(CheckKey(PROVIDER, 4, VOLUNTARY), "FAIL", DETAIL)
        assert store.distrusted() == {PROVIDER}
        # What a voluntary check finds is disputed, and is in no duty root.
        assert [(row["number"], row["dispute_id"]) for row in store.to_dispute()] == [(4, VOLUNTARY)]
        assert [result.number for result in store.opening(1).results] == [1, 2, 3]


def test_finish__withheld_from_a_voluntary_check__accuses_nobody(small: Network) -> None:
    migrate(small.database_url, "verifier")
    with closing(open_pool(small.database_url)) as pool:
        store = Store(pool, Account.create().address)
        store.add_epoch(1, b"s", [Drawn(PROVIDER, 0, 1, bytes(32), [], voluntary=True)])
        store.finish(CheckKey(PROVIDER, 1, VOLUNTARY), "WITHHELD", {"reason": "not served"})
        assert store.to_dispute() == []


@pytest.mark.parametrize("rate", [20_000, 100_000])
def test_may_volunteer__rate__is_the_factor_of_a_dutys(rate: int) -> None:
    leaves = [i.to_bytes(32, "big") for i in range(20_000)]
    duties = sum(is_drawn(b"s", PROVIDER, 0, leaf, rate, 1, 1) for leaf in leaves)
    voluntary = sum(may_volunteer(b"s", PROVIDER, 0, leaf, rate, 1, 1) for leaf in leaves)
    assert voluntary / duties == pytest.approx(VOLUNTARY_FACTOR, rel=0.2)
