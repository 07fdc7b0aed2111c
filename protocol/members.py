"""The verifiers of an epoch, read from the chain."""

from dataclasses import dataclass

from protocol.chain import Chain, struct_values


@dataclass(frozen=True)
class Member:
    """A verifier's seat. ``index`` is its place in the set, as quorum checks name signers."""

    verifier: str
    index: int
    weight: int
    endpoint: str
    public_key: bytes


def active_members(chain: Chain, epoch: int) -> dict[str, Member]:
    """The verifiers whose keys count in an epoch, by address."""
    found = {}
    for index in range(chain.call("VerifierSet", "memberCount")):
        entry = struct_values("VerifierSet", "member", chain.call("VerifierSet", "member", index))
        if entry["activeFrom"] <= epoch < entry["activeUntil"]:
            found[entry["verifier"]] = Member(entry["verifier"], index, entry["weight"], entry["endpoint"], entry["publicKey"])
    return found
