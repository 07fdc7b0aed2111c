"""The duty lottery: which verifier must check which receipt, decided after anchoring. Design section 4."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eth_abi import encode as abi_encode
from eth_hash.auto import keccak
from eth_utils.hexadecimal import decode_hex

from protocol.trees import BatchTree
from protocol.typed import ZERO32

PARTS_PER_MILLION = 1_000_000
VOLUNTARY_FACTOR = 5
"""How many times as many receipts as its duties a verifier may look at that distrusts a provider: the bound on who sees prompts."""
VERDICTS = ("PASS", "INCONCLUSIVE", "FAIL", "WITHHELD")
"""In the order of the contract's Plants.Verdict, which counts them from 1."""


def duty_payload(tip: bytes) -> bytes:
    """What a verifier signs when an epoch has closed: the tip over all of its batches."""
    return tip


def is_drawn(signature: bytes, provider: str, batch_id: int, leaf: bytes, audit_rate: int, weight: int, total_weight: int) -> bool:
    """Whether ``H(signature, provider, batch, leaf)`` falls below ``min(1, p * weight / total)``.

    ``audit_rate`` is p in parts per million, the expected number of checks of the receipt over all verifiers.
    """
    return _falls(signature, provider, batch_id, leaf, audit_rate * weight, PARTS_PER_MILLION * total_weight)


def may_volunteer(signature: bytes, provider: str, batch_id: int, leaf: bytes, audit_rate: int, weight: int, total_weight: int) -> bool:
    """Whether a verifier that distrusts the provider may check the receipt beyond its duties: a lottery of its own, at VOLUNTARY_FACTOR times the
    rate, so that distrust is no key to everybody's prompts. Arguments as of ``is_drawn``."""
    numerator = VOLUNTARY_FACTOR * audit_rate * weight
    return _falls(b"VOLUNTARY" + signature, provider, batch_id, leaf, numerator, PARTS_PER_MILLION * total_weight)


def _falls(seed: bytes, provider: str, batch_id: int, leaf: bytes, numerator: int, denominator: int) -> bool:
    digest = keccak(seed + abi_encode(["address", "uint64", "bytes32"], [provider, batch_id, leaf]))
    return int.from_bytes(digest, "big") * denominator < min(numerator, denominator) << 256


@dataclass(frozen=True)
class DutyResult:
    """One check as it goes into the duty root. ``verdict``: one of VERDICTS; ``opening``: the commitment's salt."""

    provider: str
    batch_id: int
    number: int
    verdict: str
    commitment: bytes
    opening: bytes

    @property
    def abi_tuple(self) -> tuple[str, int, int, int, bytes, bytes]:
        """As the contract's Plants.Result. Raises ValueError for a verdict that is none."""
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.verdict!r} is no verdict; they are {', '.join(VERDICTS)}")
        return (self.provider, self.batch_id, self.number, VERDICTS.index(self.verdict) + 1, self.commitment, self.opening)

    def encode(self) -> bytes:
        """ABI-encoded; a leaf of the tree is its hash, hashed again."""
        return abi_encode(["address", "uint64", "uint64", "uint8", "bytes32", "bytes32"], self.abi_tuple)


@dataclass(frozen=True)
class DutyOpening:
    """What a verifier's duty root of an epoch stands for: its signature on the epoch's tip and its results. Opened once posting is over."""

    signature: bytes
    results: tuple[DutyResult, ...]

    @classmethod
    def of(cls, signature: bytes, results: Iterable[DutyResult]) -> "DutyOpening":
        """With the results in the order of the tree: by provider, batch and number."""
        return cls(signature, tuple(sorted(results, key=lambda r: (r.provider, r.batch_id, r.number))))

    def root(self) -> bytes:
        """``keccak256(abi.encode(keccak256(signature), root of the results))``, the latter zero where there are none."""
        return keccak(keccak(self.signature) + (self._tree().root if self.results else ZERO32))

    def find(self, provider: str, number: int) -> tuple[DutyResult, list[bytes]] | None:
        """The result for a receipt and its path in the tree; None where there is none."""
        for index, result in enumerate(self.results):
            if (result.provider, result.number) == (provider, number):
                return result, self._tree().proof(index)
        return None

    def _tree(self) -> BatchTree:
        return BatchTree([keccak(result.encode()) for result in self.results])

    def to_json(self) -> dict[str, Any]:
        results = [
            {
                "provider": r.provider,
                "batch_id": r.batch_id,
                "number": r.number,
                "verdict": r.verdict,
                "commitment": "0x" + r.commitment.hex(),
                "opening": "0x" + r.opening.hex(),
            }
            for r in self.results
        ]
        return {"signature": "0x" + self.signature.hex(), "results": results}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "DutyOpening":
        """Raises ValueError, KeyError or TypeError for what is no opening."""
        results = [
            DutyResult(r["provider"], int(r["batch_id"]), int(r["number"]), r["verdict"], decode_hex(r["commitment"]), decode_hex(r["opening"]))
            for r in body["results"]
        ]
        return cls.of(decode_hex(body["signature"]), results)


def replay_commitment(salt: bytes, replayed: bytes) -> bytes:
    """A verifier's salted hash of its replayed rows, given before it may see the rows out."""
    return keccak(salt + replayed)
