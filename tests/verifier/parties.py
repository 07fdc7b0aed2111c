"""Parties on a chain without their services: what a verifier's tests act with."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from psycopg_pool import ConnectionPool

from funcnet.actors import Wallet, fund_payer, give_func, give_gas, join_as_verifier, register_model
from funcnet.network import Network
from protocol import bls
from protocol.batches import ReceiptBatch
from protocol.chain import Chain
from protocol.disputes import DisputeReader
from protocol.keystore import read_keystore
from protocol.receipts import Checkpoint, StageReceipt, Voucher
from protocol.units import FUNC
from protocol.vectors import counted
from verifier.duty import Duties
from verifier.evidence import EvidenceClient
from verifier.judging import Judging
from verifier.store import Store


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
        with at_once(small.chain):
            give_gas(small.chain, account.address)
            give_func(small.chain, small.wallet("treasury").account(), account.address, 25_000)
            join_as_verifier(small.chain, account, keys, 20_000 * FUNC, "http://127.0.0.1:1")
        secret, store, evidence = read_keystore(keys.path, keys.password), Store(pool, account.address), EvidenceClient(small.chain, account)
        judging = Judging(small.chain, account, secret, store, evidence, DisputeReader(small.chain))
        return cls(account, Duties(small.chain, account, secret, store, evidence, 20, 300), judging, store)


def rpc(chain: Chain, method: str, *arguments: Any) -> None:
    chain.web3.provider.make_request(method, list(arguments))  # type: ignore[arg-type]


@contextmanager
def at_once(chain: Chain) -> Iterator[None]:
    """A block for each transaction, instead of one a second; the clock stands still in between."""
    rpc(chain, "evm_setAutomine", True)
    try:
        yield
    finally:
        rpc(chain, "evm_setIntervalMining", 1)


def to(chain: Chain, moment: int) -> None:
    """Move the chain's clock on to a moment, in chain seconds."""
    rpc(chain, "evm_setNextBlockTimestamp", moment)
    rpc(chain, "evm_mine")


class Party:
    """A staked and registered provider that anchors receipts of work that nobody did; its payer and gateway."""

    def __init__(self, small: Network, endpoint: str = "grpcs://127.0.0.1:1", certificate: bytes = bytes(32)) -> None:
        self.chain, self.treasury = small.chain, small.wallet("treasury").account()
        self.model_id = bytes(32)
        self.batches: list[ReceiptBatch] = []
        with at_once(self.chain):
            self.provider, self.payer, self.gateway = (self._account(25_000) for _ in range(3))
            for contract, method, *arguments in (
                ("FuncToken", "approve", self.chain.address("Staking"), 20_000 * FUNC),
                ("Staking", "stake", self.provider.address, 20_000 * FUNC),
                ("ProviderRegistry", "register", self.provider.address, endpoint, certificate),
            ):
                self.chain.send(self.provider, contract, method, *arguments)

    def _account(self, whole: int) -> LocalAccount:
        account: LocalAccount = Account.create()
        give_gas(self.chain, account.address)
        give_func(self.chain, self.treasury, account.address, whole)
        return account

    def take_money(self) -> None:
        """Have a model, and a payer with a limit for the gateway: receipts anchored from now on can be paid."""
        root = secrets.token_bytes(32)
        self.model_id = keccak(root)
        register_model(self.chain, self.payer, root, 30, bytes(32), "test")
        fund_payer(self.chain, self.payer, self.gateway.address, 100 * FUNC, 100 * FUNC)

    def anchor(self, *amounts: int) -> list[StageReceipt]:
        """A batch of receipts over these amounts."""
        first = 1 + sum(len(batch.receipts) for batch in self.batches)
        whose = {"provider": self.provider.address, "payer": self.payer.address, "gateway": self.gateway.address, "model_id": self.model_id}
        point: Checkpoint = counted(Checkpoint, 1)
        base = replace(counted(StageReceipt, 1), checkpoint=point.struct_hash())
        receipts = [replace(base, **whose, number=number, amount=amount) for number, amount in enumerate(amounts, first)]
        batch = ReceiptBatch(receipts, [point] * len(receipts))
        self.chain.send(self.provider, "CommitmentLog", "anchor", batch.tree.root, first, first + len(receipts) - 1, sum(amounts), 11)
        self.batches.append(batch)
        return receipts

    def redeem(self, amount: int) -> None:
        voucher = Voucher(self.payer.address, self.gateway.address, self.provider.address, self.model_id, amount)
        signature = voucher.sign(self.chain.settlement_domain, bytes(self.gateway.key))
        self.chain.send(self.provider, "Settlement", "redeem", [tuple(voucher.message().values())], [signature])

    def release(self, batch_id: int) -> None:
        self.chain.send(self.provider, "Settlement", "release", self.provider.address, batch_id, [self.model_id])
