"""The duty lottery: which verifier must check which receipt, decided after anchoring. Design section 4."""

from dataclasses import dataclass

from eth_abi import encode as abi_encode
from eth_hash.auto import keccak

from protocol.trees import row_tree_root

PARTS_PER_MILLION = 1_000_000


def duty_payload(tip: bytes) -> bytes:
    """What a verifier signs when an epoch has closed: the tip over all of its batches."""
    return tip


def is_drawn(signature: bytes, provider: str, batch_id: int, leaf: bytes, audit_rate: int, weight: int, total_weight: int) -> bool:
    """Whether ``H(signature, provider, batch, leaf)`` falls below ``min(1, p * weight / total)``.

    ``audit_rate`` is p in parts per million, the expected number of checks of the receipt over all verifiers.
    """
    digest = keccak(signature + abi_encode(["address", "uint64", "bytes32"], [provider, batch_id, leaf]))
    numerator, denominator = audit_rate * weight, PARTS_PER_MILLION * total_weight
    return int.from_bytes(digest, "big") * denominator < min(numerator, denominator) << 256


@dataclass(frozen=True)
class DutyResult:
    """One check as it goes into the duty root. ``verdict``: PASS, INCONCLUSIVE, FAIL or WITHHELD; ``opening``: the commitment's salt."""

    provider: str
    batch_id: int
    number: int
    verdict: str
    commitment: bytes
    opening: bytes

    def encode(self) -> bytes:
        return abi_encode(
            ["address", "uint64", "uint64", "string", "bytes32", "bytes32"],
            [self.provider, self.batch_id, self.number, self.verdict, self.commitment, self.opening],
        )


def duty_root(signature: bytes, results: list[DutyResult]) -> bytes:
    """RFC 6962 root over the signature and then the results, ordered by (provider, batch, number)."""
    ordered = sorted(results, key=lambda r: (r.provider, r.batch_id, r.number))
    return row_tree_root([signature, *(r.encode() for r in ordered)])


def replay_commitment(salt: bytes, replayed: bytes) -> bytes:
    """A verifier's salted hash of its replayed rows, given before it may see the rows out."""
    return keccak(salt + replayed)
