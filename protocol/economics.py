"""When honesty pays. Amounts are in FUNC and approximate: this is analysis, no money moves by it. `docs/verification.md` derives the formulas."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

NEWCOMER_RATE, FLOOR_RATE = 3.0, 0.02
RATE_HALVING = 100.0
"""Receipts released unharmed after which a provider's audit rate is half a newcomer's: `CommitmentLog.RATE_HALVING`."""


@dataclass(frozen=True)
class Terms:
    """What a cheating provider weighs, for one stage. ``price`` and ``gain`` in FUNC a job; ``stake``: what a proven lie costs.

    ``audit_rate``: expected checks of a receipt. ``detection``: the chance that a check of a cheated job finds it. ``window``: jobs whose payout
    is still held at any time.
    """

    price: float
    gain: float
    stake: float
    audit_rate: float
    detection: float
    window: int

    def caught(self, jobs: int) -> float:
        """The chance that at least one of ``jobs`` cheated jobs is found."""
        # A rate above 1 means several verifiers; each one's draw is a chance of at most 1.
        one = 1 - math.exp(-self.audit_rate * self.detection) if self.audit_rate > 1 else self.audit_rate * self.detection
        return 1 - (1 - one) ** jobs

    def needed_stake(self, jobs: int) -> float:
        """The least loss at which cheating on ``jobs`` jobs within one window does not pay: ``N g / (1 - (1 - p d)^N) - N R``; infinite where
        nothing is ever found."""
        chance = self.caught(jobs)
        return math.inf if chance == 0 else max(0.0, jobs * self.gain / chance - jobs * self.price)

    @property
    def worst(self) -> tuple[int, float]:
        """How many jobs a cheat would best cheat on, up to a window, and the stake that deters even that."""
        numbers = sorted({1, self.window, *(int(n) for n in np.geomspace(1, self.window, 64))})
        jobs = max(numbers, key=self.needed_stake)
        return jobs, self.needed_stake(jobs)

    @property
    def honesty_pays(self) -> bool:
        return self.stake >= self.worst[1]

    def profit(self, jobs: int) -> float:
        """Expected gain of cheating on ``jobs`` jobs over doing them honestly."""
        return jobs * self.gain - self.caught(jobs) * (self.stake + jobs * self.price)

    @property
    def least_rate(self) -> float:
        """The least audit rate at which honesty pays with this stake: by bisection, to a thousandth of itself."""
        low, high = 0.0, 100.0
        if not replace(self, audit_rate=high).honesty_pays:
            return math.inf
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if replace(self, audit_rate=middle).honesty_pays else (middle, high)
        return high


def audit_rate(verified: float) -> float:
    """Expected checks of a receipt, given how many of the provider's receipts were released unharmed: `CommitmentLog._rate`."""
    return max(FLOOR_RATE, NEWCOMER_RATE * RATE_HALVING / (RATE_HALVING + verified))


@dataclass(frozen=True)
class Market:
    """The simulated market. Shares are of a job's fee; ``cost`` and ``saving`` of what an honest stage's fee is worth to it."""

    jobs_per_epoch: int = 40
    epochs: int = 400
    price: float = 0.2
    cost: float = 0.6
    saving: float = 0.5
    stake: float = 10_000.0
    slash: float = 0.05
    detection: float = 0.999
    window_epochs: int = 48
    jail_epochs: int = 168
    royalty: float = 0.05
    verifiers: float = 0.05
    treasury: float = 0.02
    burn: float = 0.01
    emission_cap: float = 0.9


Strategy = Callable[["Market", float, np.random.Generator], float]
"""The share of this epoch's jobs to cheat on, given the audit rate."""

PROVIDERS: dict[str, Strategy] = {
    "honest": lambda market, rate, source: 0.0,
    "cheats always": lambda market, rate, source: 1.0,
    "cheats on one job in ten": lambda market, rate, source: 0.1,
    "cheats once trusted": lambda market, rate, source: 1.0 if rate <= 0.1 else 0.0,
    "cheats on one job in a thousand": lambda market, rate, source: 0.001,
    "colludes with its neighbour": lambda market, rate, source: 1.0,
}


def simulate_provider(strategy: Strategy, market: Market, seed: int) -> float:
    """Profit in FUNC of one provider over all epochs.

    A found lie costs the slash and every payout that is still held; the provider sits out its jail and starts again as it was, its stake topped
    up. Neighbours who collude gain nothing over two who cheat alone, since each stage is replayed from its own committed rows in.
    """
    source = np.random.default_rng(seed)
    profit, verified, jailed, held = 0.0, 0, 0, [0.0] * market.window_epochs
    own = market.price * (1 - market.royalty - market.verifiers - market.treasury - market.burn)
    for _ in range(market.epochs):
        profit += held.pop(0)
        if jailed:
            jailed -= 1
            held.append(0.0)
            continue
        rate = audit_rate(verified)
        cheated = int(source.binomial(market.jobs_per_epoch, min(1.0, strategy(market, rate, source))))
        profit -= market.price * (market.cost * market.jobs_per_epoch - market.saving * cheated)
        terms = Terms(market.price, 0.0, 0.0, rate, market.detection, 1)
        held.append(own * market.jobs_per_epoch)
        if cheated and source.random() < terms.caught(cheated):
            profit -= market.slash * market.stake
            held, jailed, verified = [0.0] * market.window_epochs, market.jail_epochs, 0
            continue
        verified += market.jobs_per_epoch
    return profit + sum(held)


def simulate_washing(market: Market, seed: int) -> float:
    """Profit of a provider that buys its own work: it pays every cut, and draws at most the capped share of treasury's and burn's back."""
    source = np.random.default_rng(seed)
    jobs = int(source.poisson(market.jobs_per_epoch * market.epochs))
    fees = jobs * market.price
    cuts = market.royalty + market.verifiers + market.treasury + market.burn
    return fees * (market.emission_cap * (market.treasury + market.burn) - cuts)


@dataclass(frozen=True)
class VerifierMarket:
    """One verifier among ``verifiers``, over ``epochs`` with ``duties`` each. ``pay`` for a posted epoch, ``cost`` of a replay, in FUNC.

    ``planted``: the share of duties that are planted faults, and ``penalty`` for passing one or having nothing to show: Plants' fine. ``spared``:
    planted faults that one may leave undecided beyond as many as it finds.
    """

    epochs: int = 400
    duties: int = 20
    pay: float = 2.0
    cost: float = 0.02
    bond: float = 1_000.0
    planted: float = 0.001
    penalty: float = 5_000.0
    spared: int = 2


def simulate_verifiers(market: VerifierMarket, seed: int) -> dict[str, float]:
    """Profit of each kind of verifier: one that does its duties, posts nothing or empty roots, passes, accuses or leaves undecided
    everything unseen.

    Copying is passing: openings and disputes come after the posting of duties is over, so before that there is nothing to copy.
    """
    source = np.random.default_rng(seed)
    duties = market.epochs * market.duties
    planted = int(source.binomial(duties, market.planted))
    unseen = market.epochs * market.pay - planted * market.penalty
    return {
        "does its duties": market.epochs * market.pay - duties * market.cost,
        "posts nothing": 0.0,
        "posts empty roots": unseen,
        "passes everything": unseen,
        "decides nothing": market.epochs * market.pay - max(0, planted - market.spared) * market.penalty,
        "accuses everything": market.epochs * market.pay - (duties - planted) * market.bond,
    }


def least_planted(market: VerifierMarket) -> float:
    """The share of duties that must be planted for passing everything to lose against doing them: ``cost / penalty``."""
    return market.cost / market.penalty


def averages(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    found = np.asarray(values)
    return float(found.mean()), float(found.std(ddof=1) / math.sqrt(len(found)))
