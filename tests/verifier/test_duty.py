"""Drawing duties from what providers serve: one that serves nothing, or nonsense, keeps nobody else's work from being checked."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from eth_account import Account

from api.anchors import fetch_batch
from funcnet.network import Network
from protocol.batches import ReceiptBatch
from protocol.database import migrate, open_pool
from protocol.receipts import StageReceipt
from protocol.stage_rpc import StageClient, StageUnavailable
from protocol.typed import ZERO32, Signed
from protocol.vectors import counted
from protocol.wire import SERVICE, BatchReply, EvidenceHead, RouteStop
from provider.tls import ensure_certificate
from tests.verifier.parties import Judge, Party, to
from verifier import EvidenceBad, EvidenceMissing
from verifier.evidence import ROWS_IN, EvidenceClient

RECEIPTS = 30
"""In a batch: that a newcomer's whole batch is drawn by nobody has a chance of less than one in a billion."""


class Lists(EvidenceClient):
    """Batches as their providers have them, but for those of one that hides its own."""

    def __init__(self, parties: list[Party]) -> None:
        self.parties, self.hides = {party.provider.address: party for party in parties}, ""

    async def batch(self, provider: str, batch_id: int) -> ReceiptBatch:
        if provider == self.hides:
            raise EvidenceMissing("nobody there")
        return self.parties[provider].batches[batch_id]


@pytest.fixture
def judge(small: Network, tmp_path: Path) -> Iterator[Judge]:
    migrate(small.database_url, "verifier")
    with closing(open_pool(small.database_url)) as pool:
        yield Judge.join(small, pool, tmp_path)


def test_draw__one_provider_hides_its_receipts__the_others_are_checked_all_the_same(small: Network, judge: Judge) -> None:
    chain, store, duties = small.chain, judge.store, judge.duties
    length, account = int(chain.call("VerifierSet", "epochLength")), judge.account.address
    to(chain, chain.now() + 3 * length)
    honest, hiding = parties = [Party(small), Party(small)]
    duties.evidence = lists = Lists(parties)
    lists.hides = hiding.provider.address

    def anchor() -> int:
        """A batch of each, in the epoch that is given."""
        to(chain, int(chain.call("VerifierSet", "epochStart", int(chain.call("VerifierSet", "currentEpoch")) + 1)))
        for party in parties:
            party.anchor(*[1] * RECEIPTS)
        epochs = {entry["args"]["epoch"] for entry in chain["CommitmentLog"].events.BatchAnchored().get_logs()}
        epoch = int(chain.call("VerifierSet", "currentEpoch"))
        assert epochs == {epoch}
        to(chain, chain.now() + length)
        return epoch

    def posted(epoch: int) -> bool:
        """After a pass of the verifier's loop in which everything that was drawn passes."""
        duties.draw()
        for key in store.lease():
            store.finish(key, "PASS", {})
        duties.post()
        return bool(chain.call("VerifierSet", "dutyRoot", epoch, account) != ZERO32)

    def checked(epoch: int) -> set[str]:
        return {result.provider for result in store.opening(epoch).results}

    # Served late: the other batch was drawn at once, and the root waits for both.
    epoch = anchor()
    assert not posted(epoch)
    assert checked(epoch) == {honest.provider.address}
    lists.hides = ""
    assert posted(epoch)
    assert checked(epoch) == {honest.provider.address, hiding.provider.address}

    # Not served for half of the time: the root does not wait for ever, and nothing is added to what it says.
    lists.hides = hiding.provider.address
    epoch = anchor()
    assert not posted(epoch)
    to(chain, chain.now() + length * (duties.posting_epochs // 2 + 1))
    assert posted(epoch)
    lists.hides = ""
    duties.review()
    assert posted(epoch)
    assert checked(epoch) == {honest.provider.address}
    assert store.opening(epoch).root() == chain.call("VerifierSet", "dutyRoot", epoch, account)


@asynccontextmanager
async def stage(folder: Path, replies: dict[str, list[bytes]]) -> AsyncIterator[tuple[str, bytes]]:
    """A stage that answers what it is told to: its endpoint and its certificate's hash."""
    key, certificate, digest = ensure_certificate(folder)

    async def answer(_: bytes, __: Any) -> bytes:
        return replies["Batch"][0]

    async def stream(_: bytes, __: Any) -> AsyncIterator[bytes]:
        for message in replies["Evidence"]:
            yield message

    server = grpc.aio.server()
    handlers = {"Batch": grpc.unary_unary_rpc_method_handler(answer), "Evidence": grpc.unary_stream_rpc_method_handler(stream)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    await server.start()
    try:
        yield f"grpcs://127.0.0.1:{port}", digest
    finally:
        await server.stop(0)


def nonsense() -> Iterator[bytes]:
    """First messages of an evidence stream that no honest provider sends."""
    message = counted(StageReceipt, 1).to_json()
    receipt = Signed(message, "0x" + "11" * 65)
    head = msgspec.to_builtins(EvidenceHead(receipt, receipt, receipt, {}, [], 0, [], 8, 1))
    yield from (b"", b"garbage", b"[]", b"{}")
    for field, values in {
        "batch_id": (-1, 2**63, "0", 10**9),
        "prompt": ([-1], [2**63], [2**40], ["x"], [1.5]),
        "sampling": ({"temperature": "nan"}, {"seed": -1}, {"top_k": "x"}, [1]),
        "proof": (["0x"], ["zz"], [1]),
        "row_bytes": (-8, 0, 2**40),
        "row_count": (-1, 0, 2**62),
        "receipt": ({}, {"message": {}, "signature": "0x"}, {"message": {**message, "number": -1}, "signature": "0x"}),
        "offer": ({"message": {}, "signature": "0x"}, {"message": message, "signature": "xyz"}),
        "checkpoint": ({"message": {"count": 2**40}, "signature": "0x"},),
    }.items():
        for value in values:
            yield msgspec.json.encode({**head, field: value})
    yield msgspec.json.encode(head)


def test_evidence_head__well_formed__is_read() -> None:
    *_, head = nonsense()
    assert msgspec.json.decode(head, type=EvidenceHead).row_bytes == 8


async def test_provider__answers_nonsense__is_bad_evidence_and_nothing_worse(small: Network, tmp_path: Path) -> None:
    replies: dict[str, list[bytes]] = {}
    async with stage(tmp_path, replies) as (endpoint, digest):
        party = Party(small, endpoint, digest)
        honest = party.anchor(1)
        client = EvidenceClient(small.chain, Account.create())
        points = party.batches[0].checkpoints
        signed = [Signed.of(receipt, bytes(65)) for receipt in honest]
        replies["Batch"] = [msgspec.json.encode(BatchReply(signed, [point.to_json() for point in points]))]
        assert (await client.batch(party.provider.address, 0)).receipts == honest
        place = RouteStop(party.provider.address, party.provider.address, endpoint, "0x" + digest.hex(), 0, 10)
        seen_by_gateway = await fetch_batch(small.chain, place, 0)
        assert seen_by_gateway is not None
        assert seen_by_gateway.tree.proof(0) == []
        for reply in (
            b"",
            b"garbage",
            b"[]",
            b'{"receipts": 1}',
            b'{"receipts": [{"message": {"number": "x"}, "signature": ""}]}',
            b'{"receipts": [], "checkpoints": []}',
            msgspec.json.encode(BatchReply(signed, [])),
            msgspec.json.encode(BatchReply(signed, [replace(points[0], count=1).to_json()])),
        ):
            replies["Batch"] = [reply]
            with pytest.raises((EvidenceBad, EvidenceMissing), match=r"no list of receipts|no BatchReply|do not have its root"):
                await client.batch(party.provider.address, 0)
            assert await fetch_batch(small.chain, place, 0) is None
        for head in nonsense():
            replies["Evidence"] = [head, bytes(8)]
            with pytest.raises(EvidenceBad):
                await client.rows(party.provider.address, 1, ROWS_IN, b"", -1)


@pytest.mark.parametrize(
    "endpoint", ["", "http://127.0.0.1:1", "grpcs://127.0.0.1:99999", "grpcs://127.0.0.1:x", "grpcs://[", "grpcs://" + "a" * 300 + ":1"]
)
async def test_connect__endpoint_that_is_none__is_unavailable(endpoint: str) -> None:
    with pytest.raises(StageUnavailable):
        await StageClient.connect(endpoint, bytes(32))
