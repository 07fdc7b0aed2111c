"""Read a deployment back from the chain and compare it with what it should be: code, wiring, parameters, roles.

The reference is a build of these sources and a parameter file. What is immutable in a contract's code is masked and compared by its getter instead.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_hash.auto import keccak

from funcnet import FuncnetError
from protocol.chain import CONTRACTS, Chain

ADMIN, GUARDIAN, GOVERNANCE, PLANTER = 0, 1, 2, 3
GUARDED = ("Staking", "VerifierSet", "ModelRegistry", "ProviderRegistry", "PaymentEscrow")
AUTHORISED = (*GUARDED, "Settlement", "RewardPool", "Disputes", "Plants")
PAUSE = "pause(bytes4)"
DISPUTE_PARAMETERS = "(uint96,uint96,uint16,uint16,uint16,uint96,uint96,uint32,uint32,uint32,uint32)"
GOVERNED = {
    ("Settlement", "setParameters((address,uint16,uint16,uint16))"),
    ("RewardPool", "setEmission(uint96)"),
    ("Disputes", f"setParameters({DISPUTE_PARAMETERS})"),
    ("Disputes", "cancel(bytes32)"),
}
WIRING = {
    "Staking": {
        "token": "FuncToken",
        "log": "CommitmentLog",
        "disputes": "Disputes",
        "settlement": "Settlement",
        "rewards": "RewardPool",
        "plants": "Plants",
    },
    "RewardPool": {"token": "FuncToken", "staking": "Staking", "settlement": "Settlement"},
    "ProviderRegistry": {"staking": "Staking", "models": "ModelRegistry", "disputes": "Disputes"},
    "ModelRegistry": {"verifiers": "VerifierSet"},
    "PaymentEscrow": {"token": "FuncToken", "settlement": "Settlement"},
    "VerifierSet": {"staking": "Staking"},
    "CommitmentLog": {"registry": "ProviderRegistry", "disputes": "Disputes"},
    "Settlement": {
        "escrow": "PaymentEscrow",
        "staking": "Staking",
        "models": "ModelRegistry",
        "log": "CommitmentLog",
        "verifiers": "VerifierSet",
        "rewards": "RewardPool",
        "disputes": "Disputes",
        "attendance": "Attendance",
    },
    "Disputes": {
        "token": "FuncToken",
        "staking": "Staking",
        "registry": "ProviderRegistry",
        "models": "ModelRegistry",
        "log": "CommitmentLog",
        "verifiers": "VerifierSet",
        "settlement": "Settlement",
        "contradictions": "Contradictions",
        "plants": "Plants",
        "attendance": "Attendance",
    },
    "Attendance": {"disputes": "Disputes", "verifiers": "VerifierSet"},
    "Contradictions": {"log": "CommitmentLog", "registry": "ProviderRegistry", "disputes": "Disputes"},
    "Pins": {"log": "CommitmentLog", "verifiers": "VerifierSet"},
    "Plants": {
        "token": "FuncToken",
        "staking": "Staking",
        "log": "CommitmentLog",
        "verifiers": "VerifierSet",
        "pins": "Pins",
        "disputes": "Disputes",
    },
}
PARAMETERS = {
    "Staking": ("unbondingPeriod",),
    "RewardPool": ("emission", ("epochLength", "rewardEpoch")),
    "ProviderRegistry": (("minimumStake", "minimumProviderStake"), "gpuStake", "jailPeriod", "rotationThaw"),
    "ModelRegistry": ("commitDelay", "deprecationDelay"),
    "PaymentEscrow": ("thawPeriod",),
    "VerifierSet": (("minimumStake", "minimumVerifierStake"), "epochLength", "postingEpochs", "keyEpochs", "committeeSize"),
    "CommitmentLog": ("challengeWindow", "retention"),
    "Pins": ("pinWindow", "retention"),
    "TimelockController": (("getMinDelay", "timelockDelay"),),
}
PLANTS_ORDER = ("plantBounty", "plantFine", "plantAnswerWindow", "unbondingPeriod", "plantsSpared")
SETTLEMENT_ORDER = ("verifierBps", "treasuryBps", "burnBps")
DISPUTES_ORDER = (
    *("disputeBond", "appealBond", "slashBps", "smallNetworkSlashBps", "challengerBps", "judgesFee", "appealFee"),
    *("disputeWindow", "evidencePeriod", "verdictPeriod", "appealPeriod"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    what: str
    expected: object
    found: object

    @property
    def holds(self) -> bool:
        return self.expected == self.found


def check(chain: Chain, placed: Mapping[str, Any], parameters: Mapping[str, int], build: Path) -> list[Finding]:
    """Everything. ``placed``: the deployment file; ``build``: Foundry's output folder. Raises FuncnetError without a build, Unavailable."""
    return [*_code(chain, build), *_wiring(chain), *_parameters(chain, placed, parameters), *_roles(chain, placed, parameters)]


def _code(chain: Chain, build: Path) -> Iterator[Finding]:
    for name in CONTRACTS:
        try:
            built = json.loads((build / f"{name}.sol" / f"{name}.json").read_text())["deployedBytecode"]
        except FileNotFoundError as error:
            raise FuncnetError(f"no build of {name} in {build}; run `make setup`") from error
        expected = bytearray(bytes.fromhex(built["object"].removeprefix("0x")))
        found = bytearray(chain.web3.eth.get_code(chain[name].address))
        for places in built.get("immutableReferences", {}).values():
            for place in places:
                for code in (expected, found):
                    code[place["start"] : place["start"] + place["length"]] = bytes(place["length"])
        yield Finding(f"{name}: code hash", "0x" + keccak(bytes(expected)).hex(), "0x" + keccak(bytes(found)).hex())


def _wiring(chain: Chain) -> Iterator[Finding]:
    for name, members in WIRING.items():
        for member, target in members.items():
            yield Finding(f"{name}.{member}", chain.address(target), chain.call(name, member))
    for name in AUTHORISED:
        yield Finding(f"{name}.authority", chain.address("AccessManager"), chain.call(name, "authority"))


def _parameters(chain: Chain, placed: Mapping[str, Any], parameters: Mapping[str, int]) -> Iterator[Finding]:
    for name, members in PARAMETERS.items():
        for member in members:
            getter, key = member if isinstance(member, tuple) else (member, member)
            yield Finding(f"{name}.{getter}", parameters[key], chain.call(name, getter))
    treasury, *shares = chain.call("Settlement", "parameters")
    yield Finding("Settlement.parameters: treasury", placed["treasury"], treasury)
    for key, value in zip(SETTLEMENT_ORDER, shares, strict=True):
        yield Finding(f"Settlement.parameters: {key}", parameters[key], value)
    for key, value in zip(DISPUTES_ORDER, chain.call("Disputes", "parameters"), strict=True):
        yield Finding(f"Disputes.parameters: {key}", parameters[key], value)
    for key, value in zip(PLANTS_ORDER, chain.call("Plants", "terms"), strict=True):
        yield Finding(f"Plants.terms: {key}", parameters[key], value)


def _roles(chain: Chain, placed: Mapping[str, Any], parameters: Mapping[str, int]) -> Iterator[Finding]:
    timelock = chain.address("TimelockController")
    yield Finding("administrator: the timelock, after its delay", [True, parameters["adminDelay"]], _role(chain, ADMIN, timelock))
    yield Finding("governance: the timelock", [True, 0], _role(chain, GOVERNANCE, timelock))
    yield Finding("guardian", [True, 0], _role(chain, GUARDIAN, placed["guardian"]))
    yield Finding("planter: the treasury", [True, 0], _role(chain, PLANTER, placed["treasury"]))
    holders = {ADMIN: timelock, GUARDIAN: placed["guardian"], GOVERNANCE: timelock, PLANTER: placed["treasury"]}
    for role, holder in holders.items():
        yield Finding(f"members of role {role}", [holder], sorted(_members(chain, role)))
    for name in GUARDED:
        yield Finding(f"{name}.pause: role", GUARDIAN, _role_of(chain, name, PAUSE))
    yield Finding("Plants.note: role", PLANTER, _role_of(chain, "Plants", "note(bytes32)"))
    for name, function in sorted(GOVERNED):
        yield Finding(f"{name}.{function.partition('(')[0]}: role", GOVERNANCE, _role_of(chain, name, function))
    for title in ("PROPOSER_ROLE", "EXECUTOR_ROLE", "CANCELLER_ROLE"):
        role = chain.call("TimelockController", title)
        yield Finding(f"timelock {title}", True, chain.call("TimelockController", "hasRole", role, placed["governor"]))


def _role(chain: Chain, role: int, account: str) -> list[object]:
    return list(chain.call("AccessManager", "hasRole", role, account))


def _role_of(chain: Chain, contract: str, function: str) -> int:
    return int(chain.call("AccessManager", "getTargetFunctionRole", chain.address(contract), keccak(function.encode())[:4]))


def _members(chain: Chain, role: int) -> set[str]:
    """Everyone that was ever granted the role and still has it."""
    event = chain["AccessManager"].events.RoleGranted()
    granted = event.get_logs(from_block=chain.deployment.from_block, argument_filters={"roleId": role})
    return {account for entry in granted if _role(chain, role, account := entry["args"]["account"])[0]}
