"""Parts of a verifier's judging that no run of the whole network can show: those that depend on production's lifetimes."""

from contextlib import closing
from pathlib import Path

import pytest
from eth_account import Account

from funcnet.actors import give_func
from funcnet.network import Network
from protocol import bls
from protocol.batches import ReceiptBatch
from protocol.database import migrate, open_pool
from protocol.disputes import KIND_OUTPUT, DisputeReader, Round, Status
from protocol.members import active_members
from protocol.units import FUNC
from tests.verifier.parties import Judge, Party, rpc, to
from verifier.evidence import EvidenceClient
from verifier.judging import Judging
from verifier.store import CheckKey, Drawn, Store

PROVIDER = "0x" + "11" * 20


class Asked(Exception):
    """The batch was asked for, which is the first step of a dispute."""


def test_dispute__of_a_found_lie__waits_until_nobody_can_copy_from_it(small: Network) -> None:
    migrate(small.database_url, "verifier")
    account = Account.create()
    with closing(open_pool(small.database_url)) as pool:
        store = Store(pool, account.address)
        epoch = int(small.chain.call("VerifierSet", "currentEpoch"))
        store.add_epoch(epoch, b"signature", [Drawn(PROVIDER, 0, 1, bytes(32), [])])
        store.finish(CheckKey(PROVIDER, 1), "FAIL", {})

        class Lists(EvidenceClient):
            async def batch(self, provider: str, batch_id: int) -> ReceiptBatch:
                raise Asked

        def judging(waits: bool) -> Judging:
            evidence, disputes = Lists(small.chain, account), DisputeReader(small.chain)
            return Judging(small.chain, account, bls.new_secret(), store, evidence, disputes, waits)

        judging(waits=True).open_disputes()
        with pytest.raises(Asked):
            judging(waits=False).open_disputes()
        posting = int(small.chain.call("VerifierSet", "postingEpochs")) + 1
        to(small.chain, small.chain.now() + posting * int(small.chain.call("VerifierSet", "epochLength")))
        with pytest.raises(Asked):
            judging(waits=True).open_disputes()


@pytest.mark.slow
def test_round_without_quorum__costs_the_absent_their_pay_and_nobody_else(small: Network, tmp_path: Path) -> None:
    migrate(small.database_url, "verifier")
    chain = small.chain
    epoch_length = int(chain.call("VerifierSet", "epochLength"))
    with closing(open_pool(small.database_url)) as pool:
        challenger, present, absent = (Judge.join(small, pool, tmp_path / str(i)) for i in range(3))
        to(chain, chain.now() + 3 * epoch_length)
        party = Party(small)
        party.take_money()
        party.anchor(30 * FUNC)
        to(chain, chain.now() + int(chain.call("CommitmentLog", "challengeWindow")) + 1)
        (accused,) = party.anchor(10 * FUNC)
        party.redeem(40 * FUNC)
        give_func(chain, party.treasury, challenger.account.address, 1_000)
        bond = chain.call("Disputes", "parameters")[0]
        chain.send(challenger.account, "FuncToken", "approve", chain.address("Disputes"), bond)
        chain.send(challenger.account, "Disputes", "open", accused.abi_tuple(), 1, [], KIND_OUTPUT)
        reader = DisputeReader(chain)
        dispute_id = len(reader.all())
        undecided = chain.web3.provider.make_request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
        for round_ in (Round.COMMITTEE, Round.FULL_SET):
            dispute = reader.get(dispute_id)
            assert dispute.round == round_
            present.judging.take_seats()
            present.store.finish(CheckKey(dispute.provider, dispute.number, dispute_id), "FAIL", {})
            present.judging.take_seats()
            assert chain.call("Attendance", "present", dispute_id, round_) == 0  # there is time for a quorum yet
            to(chain, dispute.deadline - 20)
            present.judging.take_seats()
            assert chain.call("Attendance", "present", dispute_id, round_).bit_count() == 1
            # At the beginning of an epoch, so that the fees below come into the same one.
            into = int(chain.call("VerifierSet", "currentEpoch")) + 20 // epoch_length + 2
            to(chain, int(chain.call("VerifierSet", "epochStart", into)))
            challenger.judging.carry_on()
        party.release(0)
        assert reader.get(dispute_id).status == Status.EXPIRED
        epoch = int(chain.call("VerifierSet", "currentEpoch"))
        docked = [judge for judge in (challenger, present, absent) if chain.call("Attendance", "isDocked", epoch, judge.account.address)]
        assert docked == [absent]

        to(chain, chain.now() + epoch_length)
        for judge in (present, absent):
            judge.store.add_epoch(epoch, b"signature", [])
            seat = active_members(chain, epoch)[judge.account.address].index
            chain.send(judge.account, "VerifierSet", "postDuties", epoch, seat, b"root".ljust(32), 0)
            judge.store.mark_posted(epoch)
        share = chain.call("Settlement", "pot", epoch) // 2
        assert share
        posting = int(chain.call("VerifierSet", "postingEpochs"))
        to(chain, chain.now() + (posting + 1) * epoch_length)
        before = {judge.account.address: chain.call("FuncToken", "balanceOf", judge.account.address) for judge in (present, absent)}
        absent.duties.claim()
        assert chain.call("FuncToken", "balanceOf", absent.account.address) == before[absent.account.address]
        present.duties.claim()
        assert chain.call("FuncToken", "balanceOf", present.account.address) == before[present.account.address] + share
        assert all(chain.call("Settlement", "claimed", epoch, judge.account.address) for judge in (present, absent))

        # What is over is read once, unless the chain that it was read from is gone.
        assert [d.status for d in reader.all() if d.dispute_id == dispute_id] == [Status.EXPIRED]
        assert dispute_id in reader._ended
        rpc(chain, "evm_revert", undecided)
        assert [d.status for d in reader.all() if d.dispute_id == dispute_id] == [Status.OPEN]
