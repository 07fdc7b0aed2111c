"""Parts of a verifier's judging that no run of the whole network can show: those that depend on production's lifetimes."""

import secrets
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from psycopg_pool import ConnectionPool

from funcnet.actors import Wallet, fund_payer, give_func, give_gas, join_as_verifier, register_model
from funcnet.network import Network
from protocol import bls
from protocol.chain import Chain
from protocol.database import migrate, open_pool
from protocol.disputes import KIND_OUTPUT, DisputeReader, Round, Status
from protocol.keystore import read_keystore
from protocol.members import active_members
from protocol.receipts import StageReceipt, Voucher
from protocol.trees import BatchTree
from protocol.units import FUNC
from protocol.vectors import counted
from verifier.duty import Duties
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

        def receipts_of(*_: Any) -> Any:
            raise Asked

        def judging(waits: bool) -> Judging:
            evidence, disputes = EvidenceClient(small.chain, account), DisputeReader(small.chain)
            return Judging(small.chain, account, bls.new_secret(), store, evidence, disputes, waits)

        judging(waits=True).open_disputes(receipts_of)
        with pytest.raises(Asked):
            judging(waits=False).open_disputes(receipts_of)
        posting = int(small.chain.call("VerifierSet", "postingEpochs")) + 1
        to(small.chain, small.chain.now() + posting * int(small.chain.call("VerifierSet", "epochLength")))
        with pytest.raises(Asked):
            judging(waits=True).open_disputes(receipts_of)


@dataclass
class Judge:
    """A verifier without a service: its steps are taken by the test."""

    account: LocalAccount
    duties: Duties
    judging: Judging
    store: Store

    @classmethod
    def join(cls, small: Network, pool: ConnectionPool, folder: Path) -> "Judge":
        account, keys = Account.create(), Wallet.ensure(folder / "bls.json", bls.new_secret())
        give_gas(small.chain, account.address)
        give_func(small.chain, small.wallet("treasury").account(), account.address, 25_000)
        join_as_verifier(small.chain, account, keys, 20_000 * FUNC, "http://127.0.0.1:1")
        secret, store, evidence = read_keystore(keys.path, keys.password), Store(pool, account.address), EvidenceClient(small.chain, account)
        judging = Judging(small.chain, account, secret, store, evidence, DisputeReader(small.chain))
        return cls(account, Duties(small.chain, account, secret, store, evidence, 20), judging, store)


def to(chain: Chain, moment: int) -> None:
    """Move the chain's clock on to a moment, in chain seconds."""
    for method, argument in (("evm_setNextBlockTimestamp", [moment]), ("evm_mine", [])):
        chain.web3.provider.make_request(method, argument)  # type: ignore[arg-type]


class Party:
    """A provider whose two receipts are anchored and redeemed; the first one's fee is past its window."""

    def __init__(self, small: Network) -> None:
        self.chain, self.treasury = small.chain, small.wallet("treasury").account()
        self.provider, self.payer, self.gateway = (self._account(25_000) for _ in range(3))
        root = secrets.token_bytes(32)
        self.model_id = keccak(root)
        register_model(self.chain, self.payer, root, 30, bytes(32), "test")
        for contract, method, *arguments in (
            ("FuncToken", "approve", self.chain.address("Staking"), 20_000 * FUNC),
            ("Staking", "stake", self.provider.address, 20_000 * FUNC),
            ("ProviderRegistry", "register", self.provider.address, "grpcs://127.0.0.1:1", bytes(32)),
        ):
            self.chain.send(self.provider, contract, method, *arguments)
        fund_payer(self.chain, self.payer, self.gateway.address, 100 * FUNC, 100 * FUNC)
        for number, amount in ((1, 30 * FUNC), (2, 10 * FUNC)):
            self._anchor(number, amount)
            if number == 1:
                to(self.chain, self.chain.now() + int(self.chain.call("CommitmentLog", "challengeWindow")) + 1)
        self._redeem(40 * FUNC)

    def _account(self, whole: int) -> LocalAccount:
        account: LocalAccount = Account.create()
        give_gas(self.chain, account.address)
        give_func(self.chain, self.treasury, account.address, whole)
        return account

    def receipt(self, number: int, amount: int) -> StageReceipt:
        return replace(
            counted(StageReceipt, 1),
            **{"provider": self.provider.address, "number": number, "payer": self.payer.address, "gateway": self.gateway.address},
            **{"model_id": self.model_id, "amount": amount},
        )

    def _anchor(self, number: int, amount: int) -> None:
        root = BatchTree([self.receipt(number, amount).struct_hash()]).root
        self.chain.send(self.provider, "CommitmentLog", "anchor", root, number, number, amount, 11)

    def _redeem(self, amount: int) -> None:
        voucher = Voucher(self.payer.address, self.gateway.address, self.provider.address, self.model_id, amount)
        signature = voucher.sign(self.chain.settlement_domain, bytes(self.gateway.key))
        self.chain.send(self.provider, "Settlement", "redeem", [tuple(voucher.message().values())], [signature])

    def release(self) -> None:
        self.chain.send(self.provider, "Settlement", "release", self.provider.address, 0, [self.model_id])


def test_round_without_quorum__costs_the_absent_their_pay_and_nobody_else(small: Network, tmp_path: Path) -> None:
    migrate(small.database_url, "verifier")
    chain = small.chain
    epoch_length = int(chain.call("VerifierSet", "epochLength"))
    with closing(open_pool(small.database_url)) as pool:
        challenger, present, absent = (Judge.join(small, pool, tmp_path / str(i)) for i in range(3))
        to(chain, chain.now() + 3 * epoch_length)
        party = Party(small)
        give_func(chain, party.treasury, challenger.account.address, 1_000)
        bond = chain.call("Disputes", "parameters")[0]
        chain.send(challenger.account, "FuncToken", "approve", chain.address("Disputes"), bond)
        chain.send(challenger.account, "Disputes", "open", party.receipt(2, 10 * FUNC).abi_tuple(), 1, [], KIND_OUTPUT)
        reader = DisputeReader(chain)
        dispute_id = len(reader.all())
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
        party.release()
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
