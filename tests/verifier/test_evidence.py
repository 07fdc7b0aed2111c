"""Rows in are bound to what the stages before signed, also where those were replaced."""

from dataclasses import dataclass, replace

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from funcnet.network import Network
from protocol.receipts import Checkpoint, RouteUpdate, SessionOffer
from protocol.trees import row_tree_root
from protocol.typed import Signed
from protocol.vectors import counted
from protocol.wire import EvidenceHead, RelinkRequest, RouteStop, route_hash
from verifier import EvidenceBad
from verifier.evidence import EvidenceClient

LEAVES = [keccak(i.to_bytes(4, "big")) for i in range(100)]
GATEWAY, FIRST, SECOND, OWN = (Account.from_key(bytes([i]) * 32) for i in (1, 2, 3, 4))


def stop(account: LocalAccount, first: int, end: int) -> RouteStop:
    return RouteStop(account.address, account.address, "grpcs://127.0.0.1:1", "0x", first, end)


ROUTE, REPLACED = ([stop(before, 0, 10), stop(OWN, 10, 20)] for before in (FIRST, SECOND))


@dataclass
class Bound:
    """What a stage shows beside its rows, and the client that looks at it."""

    network: Network

    @property
    def client(self) -> EvidenceClient:
        return EvidenceClient(self.network.chain, OWN)

    @property
    def offer(self) -> SessionOffer:
        base = counted(SessionOffer, 1)
        return replace(base, first_layer=10, end_layer=20, first_position=0, route_hash=route_hash(ROUTE), gateway=GATEWAY.address)

    def point(self, by: LocalAccount, first: int, end: int, leaves: list[bytes] = LEAVES) -> Signed:
        base = counted(Checkpoint, 1)
        root = row_tree_root(leaves[first:end])
        point = replace(base, job_id=self.offer.job_id, first_position=first, count=end - first, end_layer=10, root_out=root)
        return Signed.of(point, point.sign(self.network.chain.receipts_domain, bytes(by.key)))

    def update(self, by: LocalAccount) -> RelinkRequest:
        word = RouteUpdate(self.offer.job_id, 2, route_hash(REPLACED))
        signed = Signed.of(word, word.sign(self.network.chain.receipts_domain, bytes(by.key)))
        return RelinkRequest(self.offer.job_id.hex(), 1, signed, REPLACED)

    def require(self, upstream: list[Signed], updates: list[RelinkRequest] | None = None, first_position: int = 0) -> None:
        none = Signed({}, "0x")
        head = EvidenceHead(none, none, none, {}, [], 0, [], 1, len(LEAVES), ROUTE, updates or [], upstream)
        self.client._require_sent(head, replace(self.offer, first_position=first_position), LEAVES)


@pytest.fixture
def bound(small: Network) -> Bound:
    return Bound(small)


def test_rows_in__as_the_stage_before_signed__count(bound: Bound) -> None:
    bound.require([bound.point(FIRST, 0, 100)])
    bound.require([bound.point(FIRST, 0, 70)])  # what came after the last checkpoint


def test_rows_in__of_a_replaced_stage__count_with_the_gateways_order(bound: Bound) -> None:
    points = [bound.point(FIRST, 0, 40), bound.point(SECOND, 50, 100)]
    bound.require(points, [bound.update(GATEWAY)])
    with pytest.raises(EvidenceBad, match="was not the stage before"):
        bound.require(points)
    # Both this stage and the one before it took over in mid-stream.
    bound.require([bound.point(SECOND, 60, 100)], [bound.update(GATEWAY)], first_position=60)


def test_rows_in__that_nobody_sent__are_no_evidence(bound: Bound) -> None:
    with pytest.raises(EvidenceBad, match="not those"):
        bound.require([bound.point(FIRST, 0, 100, LEAVES[::-1])])
    with pytest.raises(EvidenceBad, match="was not the stage before"):
        bound.require([bound.point(OWN, 0, 100)])
    with pytest.raises(EvidenceBad, match="not bound"):
        bound.require([])
    with pytest.raises(EvidenceBad, match="not bound"):
        bound.require([bound.point(FIRST, 0, 60)])
    with pytest.raises(EvidenceBad, match="not those"):
        bound.require([bound.point(FIRST, 40, 100)])
