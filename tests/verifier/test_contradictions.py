"""What a stage shows as its neighbour's word, against what that neighbour has anchored; and lists that nobody is shown. On a real chain."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from funcnet.actors import give_func
from funcnet.network import Network
from protocol.batches import ReceiptBatch
from protocol.database import migrate, open_pool
from protocol.disputes import KIND_HIDDEN, DisputeReader, Outcome
from protocol.receipts import Checkpoint, StageReceipt
from protocol.typed import Signed
from protocol.vectors import counted
from protocol.wire import LIST
from tests.verifier.parties import Judge, Party, to
from verifier.store import CheckKey

POINT = replace(counted(Checkpoint, 1), first_layer=0, end_layer=10, first_position=0)


@pytest.fixture
def pool(small: Network) -> Iterator[ConnectionPool]:
    migrate(small.database_url, "verifier")
    with closing(open_pool(small.database_url)) as opened:
        yield opened


@pytest.fixture
def judge(small: Network, pool: ConnectionPool, tmp_path: Path) -> Judge:
    return Judge.join(small, pool, tmp_path)


class Sender(Party):
    """A first stage that anchored one receipt, whose checkpoint is ``named``."""

    def serve(self) -> Checkpoint:
        named = replace(POINT, provider=self.provider.address)
        whose = {"provider": self.provider.address, "number": 1, "job_id": named.job_id, "checkpoint": named.struct_hash()}
        receipt = replace(counted(StageReceipt, 1), **whose, first_layer=0, end_layer=10)
        self.batches.append(ReceiptBatch([receipt], [named]))
        self.chain.send(self.provider, "CommitmentLog", "anchor", self.batches[0].tree.root, 1, 1, 5, 11)
        return named

    def sign(self, point: Checkpoint) -> Signed:
        return Signed.of(point, point.sign(self.chain.receipts_domain, bytes(self.provider.key)))


def proofs(small: Network, provider: str) -> list[Any]:
    event = small.chain["Contradictions"].events.ContradictionProven()
    return list(event.get_logs(from_block=small.chain.deployment.from_block, argument_filters={"provider": provider}))


def test_neighbours_word__other_than_the_anchored_one__is_slashed_once(small: Network, judge: Judge) -> None:
    sender = Sender(small)
    named, address = sender.serve(), sender.provider.address
    stake = small.chain.call("Staking", "stakeOf", address)
    judge.store.add_shown([sender.sign(replace(named, root_out=b"x" * 32, previous=b"y" * 32))])
    judge.judging.prove_contradictions()
    assert proofs(small, address) == []  # what it anchored is not known yet
    judge.store.keep_batch(address, 0, sender.batches[0])
    judge.judging.prove_contradictions()
    (found,) = proofs(small, address)
    assert found["args"]["reporter"] == judge.account.address
    assert small.chain.call("Staking", "stakeOf", address) == stake - found["args"]["slashed"] < stake
    # Another of the kind is the same offence.
    judge.store.add_shown([sender.sign(replace(named, root_out=b"z" * 32))])
    judge.judging.prove_contradictions()
    assert len(proofs(small, address)) == 1
    assert judge.store.contradictions() == []


def test_neighbours_word__the_same_rows_or_others__accuses_nobody(small: Network, judge: Judge) -> None:
    sender = Sender(small)
    named, address = sender.serve(), sender.provider.address
    judge.store.keep_batch(address, 0, sender.batches[0])
    harmless = [
        named,
        replace(named, previous=b"y" * 32, upstream=b"z" * 32),
        replace(named, count=named.count - 1, root_out=b"x" * 32),
        replace(named, epoch=named.epoch + 1, root_out=b"x" * 32),
        replace(named, job_id=b"j" * 32, root_out=b"x" * 32),
    ]
    judge.store.add_shown([sender.sign(point) for point in harmless])
    # Nor does what somebody else has signed in its name.
    forged = replace(named, root_out=b"f" * 32)
    judge.store.add_shown([Signed.of(forged, forged.sign(small.chain.receipts_domain, bytes(judge.account.key)))])
    assert len(judge.store.contradictions()) == 1
    judge.judging.prove_contradictions()
    assert judge.store.contradictions() == []
    judge.judging.prove_contradictions()
    assert proofs(small, address) == []


def test_batch__shown_once__is_disputed_also_when_its_list_is_hidden_later(small: Network, judge: Judge) -> None:
    party = Party(small)
    (receipt,) = party.anchor(1)
    judge.store.keep_batch(party.provider.address, 0, party.batches[0])
    judge.store.add_committee_check(key := CheckKey(party.provider.address, receipt.number), 0, 0)
    judge.store.finish(key, "FAIL", {})
    give_func(small.chain, party.treasury, judge.account.address, 1_000)
    judge.judging.open_disputes()  # its endpoint answers nobody
    assert (party.provider.address, receipt.number) in {(d.provider, d.number) for d in DisputeReader(small.chain).all()}


def test_list__hidden_for_too_long__is_disputed_as_a_whole_batch__and_judged(small: Network, pool: ConnectionPool, tmp_path: Path) -> None:
    chain = small.chain
    challenger, other = (Judge.join(small, pool, tmp_path / str(i)) for i in range(2))
    party = Party(small)
    give_func(chain, party.treasury, challenger.account.address, 1_000)
    # Keys count from the second epoch after they were registered.
    to(chain, int(chain.call("VerifierSet", "epochStart", int(chain.call("VerifierSet", "currentEpoch")) + 4)))
    party.anchor(1, 1)
    address, reader = party.provider.address, DisputeReader(chain)
    to(chain, chain.now() + int(chain.call("VerifierSet", "epochLength")))
    challenger.duties.draw()  # nobody answers at its endpoint
    key = CheckKey(address, 1, LIST)
    assert key in challenger.store.lease()
    challenger.judging.open_disputes()
    assert address not in {d.provider for d in reader.all()}
    challenger.store.finish(key, "WITHHELD", {"reason": "nobody there"})
    challenger.judging.open_disputes()
    challenger.judging.open_disputes()
    (dispute,) = [d for d in reader.all() if d.provider == address]
    assert (dispute.kind, dispute.batch_id, dispute.number) == (KIND_HIDDEN, 0, 1)
    # The other judges look for themselves: for the list, not for a receipt's rows.
    other.judging.take_seats()
    own = CheckKey(address, 1, dispute.dispute_id)
    row = other.store.pending(own)
    assert row is not None
    assert row["of_list"]
    other.store.finish(own, "WITHHELD", {})
    other.judging.take_seats()
    said = other.store.statement(f"dispute/{dispute.dispute_id}/{dispute.round}")
    assert said is not None
    assert said["value"] == Outcome.WITHHELD.name.lower()
    # A duty root is made of receipts alone.
    assert challenger.store.opening(dispute.epoch).results == ()
