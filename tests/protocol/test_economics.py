"""The formulas against chance itself, and the simulated market: honesty earns most wherever the formulas say that it pays."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from funcnet.network import Network
from protocol import economics
from protocol.economics import PROVIDERS, Market, Terms, VerifierMarket

FUNCNET = str(Path(sys.executable).parent / "funcnet")
TERMS = Terms(price=0.2, gain=0.1, stake=500.0, audit_rate=0.02, detection=0.999, window=2_000)


@pytest.mark.parametrize("jobs", [1, 10, 200])
def test_profit__many_tries__is_what_happens_in_the_mean(jobs: int) -> None:
    source = np.random.default_rng(jobs)
    caught = (source.random((40_000, jobs)) < TERMS.audit_rate * TERMS.detection).any(axis=1)
    mean = float(np.where(caught, jobs * (TERMS.gain - TERMS.price) - TERMS.stake, jobs * TERMS.gain).mean())
    assert TERMS.profit(jobs) == pytest.approx(mean, rel=0.05, abs=1.0)


def test_needed_stake__at_it__cheating_gains_nothing() -> None:
    for jobs in (1, 7, 20):
        assert TERMS.needed_stake(jobs) > 0
        assert replace(TERMS, stake=TERMS.needed_stake(jobs)).profit(jobs) == pytest.approx(0, abs=1e-9)
    # The payouts that are held deter from cheating on everything: no stake is needed for that.
    assert TERMS.needed_stake(500) == 0
    assert replace(TERMS, stake=0.0).profit(500) < 0
    jobs, needed = TERMS.worst
    assert all(TERMS.needed_stake(n) <= needed for n in range(1, TERMS.window, 37))
    assert replace(TERMS, stake=needed).honesty_pays
    assert not replace(TERMS, stake=needed - 0.01).honesty_pays


def test_needed_stake__nothing_is_ever_found__no_stake_is_enough() -> None:
    assert not replace(TERMS, detection=0.0).honesty_pays


def test_least_rate__below_it__honesty_stops_paying() -> None:
    rate = TERMS.least_rate
    assert replace(TERMS, audit_rate=rate).honesty_pays
    assert not replace(TERMS, audit_rate=rate * 0.99).honesty_pays


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_simulation__production_terms__honesty_earns_most(seed: int) -> None:
    market = Market()
    earned = {
        name: economics.averages([economics.simulate_provider(strategy, market, 100 * seed + run) for run in range(20)])[0]
        for name, strategy in PROVIDERS.items()
    }
    earned["washes trades"] = economics.simulate_washing(market, seed)
    assert max(earned, key=lambda name: earned[name]) == "honest"
    assert earned["washes trades"] < 0


def test_simulation__nothing_is_found__cheating_earns_most() -> None:
    market = Market(detection=0.0)
    cheats, honest = (economics.simulate_provider(PROVIDERS[name], market, 1) for name in ("cheats always", "honest"))
    assert cheats > honest


def test_verifiers__planted_faults__decide_whether_passing_everything_pays() -> None:
    planted = economics.simulate_verifiers(VerifierMarket(), 1)
    assert max(planted, key=lambda name: planted[name]) == "does its duties"
    none = economics.simulate_verifiers(VerifierMarket(planted=0.0), 1)
    assert none["passes everything"] == none["decides nothing"] == none["posts empty roots"]
    assert none["passes everything"] > none["does its duties"] > none["posts nothing"] > none["accuses everything"]


def test_verifiers__fine_and_bond__are_productions() -> None:
    given = json.loads(Path("deploy/params/production.json").read_text())
    assert (VerifierMarket.penalty, VerifierMarket.bond) == (given["plantFine"] / 1e18, given["disputeBond"] / 1e18)
    assert VerifierMarket.spared == given["plantsSpared"]


def test_audit_rate__constants__are_the_contracts(small: Network) -> None:
    halving, newcomer, floor = (small.chain.call("CommitmentLog", name) for name in ("RATE_HALVING", "NEWCOMER_RATE", "FLOOR_RATE"))
    assert (halving, newcomer / 1e6, floor / 1e6) == (economics.RATE_HALVING, economics.NEWCOMER_RATE, economics.FLOOR_RATE)


def test_economics__command__reports_and_refuses_what_makes_no_sense() -> None:
    done = subprocess.run([FUNCNET, "economics", "--json"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["honesty_pays"] is True
    assert report["best_provider"] == "honest"
    bad = subprocess.run([FUNCNET, "economics", "--detection", "1.5"], capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert bad.stderr == "funcnet: --detection 1.5 is not above 0 and at most 1\n"
