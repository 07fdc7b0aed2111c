"""The verifiers of an epoch, read from the chain."""

from dataclasses import dataclass

from protocol.chain import Chain, struct_list


@dataclass(frozen=True)
class Member:
    """A verifier's seat. ``index`` is its place in the set, as quorum checks name who is absent."""

    verifier: str
    index: int
    weight: int
    endpoint: str
    public_key: bytes


def active_members(chain: Chain, epoch: int) -> dict[str, Member]:
    """The verifiers whose keys count in an epoch, by address."""
    seats = struct_list("VerifierSet", "seatsOf", chain.call("VerifierSet", "seatsOf", epoch))
    return {s["verifier"]: Member(s["verifier"], i, s["weight"], s["endpoint"], s["publicKey"]) for i, s in enumerate(seats)}
