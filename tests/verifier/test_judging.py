"""Parts of a verifier's judging that no run of the whole network can show: those that depend on production's lifetimes."""

from contextlib import closing
from typing import Any

import pytest
from eth_account import Account

from funcnet.network import Network
from protocol import bls
from protocol.database import migrate, open_pool
from protocol.disputes import DisputeReader
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
        for method, arguments in (("evm_increaseTime", [posting * int(small.chain.call("VerifierSet", "epochLength"))]), ("evm_mine", [])):
            small.chain.web3.provider.make_request(method, arguments)  # type: ignore[arg-type]
        with pytest.raises(Asked):
            judging(waits=True).open_disputes(receipts_of)
