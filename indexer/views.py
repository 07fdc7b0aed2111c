"""Which of the contracts' view functions tell what a fact tells, for the audit: the two come from different code and have to be the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from eth_abi.codec import ABICodec
from eth_hash.auto import keccak

from indexer.decode import compile_type
from indexer.facts import FactKey, Value
from protocol.chain import abi, canonical_type, text_codec


@dataclass(frozen=True)
class View:
    """``members``: of the answer, empty for one that is no struct, to the fact's members. A fact without the member means zero."""

    kind: str
    contract: str
    function: str
    args: tuple[str, ...]
    members: Mapping[str, str]

    @cached_property
    def _entry(self) -> Mapping[str, Any]:
        return next(entry for entry in abi(self.contract) if entry.get("name") == self.function and len(entry["inputs"]) == len(self.args))

    @cached_property
    def _selector(self) -> bytes:
        types = ",".join(canonical_type(item) for item in self._entry["inputs"])
        return bytes(keccak(f"{self.function}({types})".encode())[:4])

    def call(self, value: Value, codec: ABICodec) -> str:
        """The call's data as 0x hex."""
        types = [canonical_type(item) for item in self._entry["inputs"]]
        args = [_argument(kind, value[name]) for kind, name in zip(types, self.args, strict=True)]
        return "0x" + (self._selector + codec.encode(types, args)).hex()

    def read(self, data: bytes) -> dict[str, Any]:
        """What the chain says the fact's members are. Raises ValueError for data that is no answer of the function."""
        (output,) = self._entry["outputs"]
        answer = compile_type(output).read(data, 0, 0)
        return {member: answer if name == "" else answer[name] for name, member in self.members.items()}

    def differences(self, value: Value, data: bytes) -> list[tuple[str, Any, Any]]:
        """Members that differ: name, what the tables have, what the chain has."""
        told = self.read(data)
        return [(name, value.get(name), is_) for name, is_ in told.items() if _plain(value.get(name, 0)) != _plain(is_)]


def _argument(kind: str, value: Any) -> Any:
    return bytes.fromhex(value[2:]) if kind == "bytes32" else int(value) if kind.startswith("uint") else value


def _plain(value: Any) -> Any:
    """A number whatever it is written as."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return int(value) if isinstance(value, bool) else value


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


OFFER = ("modelId", "firstLayer", "endLayer", "executionClass", "inputPrice", "cachedPrice", "outputPrice", "active")
MODEL = ("creator", "manifestRoot", "layerCount", "cutPoints", "toleranceRoot", "toleranceAttested", "royaltyBps", "payout", "metadataUri")
LIMIT = ("reserved", "room", "periodEnd", "endsAt", "anyModel", "amountPerPeriod", "period", "expiry", "revokedAt")
RECORD = {"drawn": "plantsDrawn", "found": "plantsFound", "undecided": "plantsUndecided", "missed": "plantsMissed"}
STREAM = ("payer", "gateway", "provider", "modelId")

VIEWS = (
    View("network", "FuncToken", "totalSupply", (), {"": "supply"}),
    View("network", "RewardPool", "unallocated", (), {"": "unallocated"}),
    View("balance", "FuncToken", "balanceOf", ("account",), {"": "balance"}),
    View("provider", "ProviderRegistry", "providerInfo", ("provider",), _same("operator", "endpoint", "tlsCertHash", "jailedUntil", "registeredAt")),
    View("operator", "ProviderRegistry", "providerOf", ("operator",), {"": "provider"}),
    View("offer", "ProviderRegistry", "offerAt", ("provider", "offerId"), _same(*OFFER)),
    View("model", "ModelRegistry", "model", ("modelId",), _same(*MODEL, "deprecatedFrom")),
    View("stake", "Staking", "accountOf", ("account",), _same("active", "frozen", "holds")),
    View("stake", "Staking", "poolOf", ("account",), _same("delegated")),
    View("deposit", "PaymentEscrow", "depositOf", ("payer",), _same("balance", "thawing")),
    View("limit", "PaymentEscrow", "limitOf", ("payer", "gateway"), _same(*LIMIT)),
    View("authorisation", "PaymentEscrow", "authorisationOf", ("payer", "gateway"), _same("required", "cumulative", "taken")),
    View("bond", "PaymentEscrow", "bondOf", ("gateway",), _same("balance", "allocated", "thawing")),
    View("allocation", "PaymentEscrow", "allocationOf", ("gateway", "provider"), {"": "amount"}),
    View("stream", "Settlement", "redeemedOf", STREAM, {"": "redeemed"}),
    View("held", "Settlement", "heldOf", ("provider", "modelId"), {"": "held"}),
    View("refund", "Settlement", "refundDue", ("provider", "payer", "modelId"), {"": "stillDue"}),
    View("released", "Settlement", "releasedOf", ("provider",), {"": "released"}),
    View("work", "CommitmentLog", "batchCount", ("provider",), {"": "batches"}),
    View("work", "CommitmentLog", "lastNumber", ("provider",), {"": "receipts"}),
    View("cut", "RewardPool", "cutOf", ("provider", "epoch"), {"": "cut"}),
    View("budget", "RewardPool", "epochOf", ("epoch",), _same("cut", "budget", "closed")),
    View("verifier", "VerifierSet", "memberOf", ("verifier",), _same("joined", "endpoint")),
    View("verifier", "Plants", "recordOf", ("verifier",), RECORD),
    View("duty", "VerifierSet", "dutyRoot", ("epoch", "verifier"), {"": "root"}),
    View("dispute", "Disputes", "dispute", ("disputeId",), _same("provider", "challenger", "status", "round", "outcome", "deadline")),
)


@dataclass
class Question:
    """A view about a fact, its call worked out."""

    key: FactKey
    view: View
    data: str


def questions(facts: Mapping[FactKey, Value]) -> list[Question]:
    """All views about all facts that have one."""
    codec = text_codec()
    by_kind: dict[str, list[View]] = {}
    for view in VIEWS:
        by_kind.setdefault(view.kind, []).append(view)
    return [Question(key, view, view.call(value, codec)) for key, value in facts.items() for view in by_kind.get(key.kind, ())]


def unviewed(kinds: Sequence[str]) -> list[str]:
    """Kinds of fact that no view tells: sums over time, and what is only ever said by an event."""
    return [kind for kind in kinds if all(view.kind != kind for view in VIEWS)]
