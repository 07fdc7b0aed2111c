"""``funcnet economics``: whether honesty pays, by formula and in a simulated market."""

import json
from pathlib import Path
from typing import Annotated

import typer

from funcnet import FuncnetError
from protocol import economics
from protocol.economics import Market, Terms, VerifierMarket
from protocol.units import FUNC

RUNS = 50


def economics_(
    price: Annotated[float, typer.Option(help="FUNC that a stage earns with a job")] = 0.2,
    gain: Annotated[float, typer.Option(help="FUNC that a cheat saves with a job")] = 0.1,
    audit_rate: Annotated[float, typer.Option(help="expected checks of a receipt; 0.02 is the floor, 3 a newcomer's")] = economics.FLOOR_RATE,
    detection: Annotated[float, typer.Option(help="chance that a check of a cheated job finds it")] = 0.999,
    window: Annotated[int, typer.Option(help="jobs whose payout is held at any time")] = 2_000,
    stake: Annotated[float | None, typer.Option(help="FUNC that a proven lie costs; that of --parameters where none is given")] = None,
    parameters: Annotated[Path, typer.Option(help="parameter file of a network")] = Path("deploy/params/production.json"),
    planted: Annotated[float, typer.Option(help="share of a verifier's duties that are planted faults")] = VerifierMarket.planted,
    seed: Annotated[int, typer.Option(help="of the simulation")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON")] = False,
) -> None:
    """Whether honesty pays at these terms, how much stake or how many checks it takes, and who earns what in a simulated market."""
    if not parameters.is_file():
        raise FuncnetError(f"{parameters} does not exist; give --parameters a file as those in deploy/params")
    for name, value, least, most in (("--audit-rate", audit_rate, 0, 100), ("--detection", detection, 0, 1), ("--price", price, 0, 1e12)):
        if not least < value <= most:
            raise FuncnetError(f"{name} {value} is not above {least} and at most {most}")
    if not 0 <= planted <= 1:
        raise FuncnetError(f"--planted {planted} is not a share; give 0 to 1")
    if window < 1:
        raise FuncnetError(f"--window {window} is not a number of jobs; give at least 1")
    given = json.loads(parameters.read_text())
    own = given["minimumProviderStake"] / FUNC
    # A small network's slash, the least that a proven lie costs.
    terms = Terms(price, gain, stake if stake is not None else own * given["smallNetworkSlashBps"] / 10_000, audit_rate, detection, window)
    jobs, needed = terms.worst
    market = Market(
        price=price,
        saving=gain / price,
        stake=own,
        slash=terms.stake / own,
        detection=detection,
        verifiers=given["verifierBps"] / 10_000,
        treasury=given["treasuryBps"] / 10_000,
        burn=given["burnBps"] / 10_000,
        window_epochs=given["challengeWindow"] // given["epochLength"],
        jail_epochs=given["jailPeriod"] // given["epochLength"],
    )
    earned = {
        name: economics.averages([economics.simulate_provider(strategy, market, seed * 10_000 + run) for run in range(RUNS)])
        for name, strategy in economics.PROVIDERS.items()
    }
    earned["washes trades"] = economics.averages([economics.simulate_washing(market, seed * 10_000 + run) for run in range(RUNS)])
    duties = VerifierMarket(planted=planted, penalty=given["plantFine"] / FUNC, bond=given["disputeBond"] / FUNC, spared=given["plantsSpared"])
    judges = economics.simulate_verifiers(duties, seed)
    best = max(earned, key=lambda name: earned[name][0])
    report = {
        "honesty_pays": terms.honesty_pays,
        "at_stake": terms.stake,
        "needed_stake": needed,
        "best_cheat_jobs": jobs,
        "least_audit_rate": terms.least_rate,
        "providers": {name: {"profit": mean, "error": error} for name, (mean, error) in earned.items()},
        "best_provider": best,
        "verifiers": judges,
        "least_planted": economics.least_planted(duties),
    }
    if as_json:
        print(json.dumps(report))
        return
    print(f"A proven lie costs {terms.stake:,.0f} FUNC and the held payouts; {needed:,.2f} would do, against a cheat on {jobs} job(s) of a window.")
    print(f"Honesty {'pays' if terms.honesty_pays else 'does NOT pay'}. It would down to {terms.least_rate:.2g} checks of a receipt.")
    print(f"\n{RUNS} simulated markets, FUNC after {market.epochs} epochs:")
    for name, (mean, error) in sorted(earned.items(), key=lambda item: -item[1][0]):
        print(f"  {name:34} {mean:>12,.1f} ± {error:,.1f}")
    print(f"\nA verifier's, with {planted:.2%} of its duties planted faults:")
    for name, profit in sorted(judges.items(), key=lambda item: -item[1]):
        print(f"  {name:34} {profit:>12,.1f}")
    print(f"  Passing everything loses to doing them from a share of {report['least_planted']:.2g} on.")
