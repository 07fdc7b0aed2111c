"""A gateway and a neighbour that mean ill, at a stage of the real network: what they send is refused with a reason, and harms nobody else's work."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc
import msgspec
import openai
import pytest
import torch

from funcnet.network import Network
from inference.classes import rows_to_bytes
from protocol.chain import struct_values
from protocol.receipts import Checkpoint, SessionOffer, Voucher, bulk_price, execution_class_id
from protocol.rows import FRAME_ROWS, prompt_root, row_leaf
from protocol.sampling import SamplingParameters
from protocol.stage_rpc import StageClient, StageRefused
from protocol.trees import row_tree_root
from protocol.typed import ZERO32, Signed
from protocol.wire import AttachRequest, CloseReply, CloseRequest, Frame, Kind, OpenReply, OpenRequest, RouteStop, SessionProgress, route_hash
from tests.network.asking import ask, extra
from tests.signatures import twin

STAGE, HIDDEN, PROMPT = "provider-2", 576, [1, 2, 3]


class Hostile:
    """Acts as gateway and as the stage before: orders sessions of layers 10-20 and sends what a test asks for."""

    def __init__(self, network: Network, stage: StageClient) -> None:
        self.network, self.stage = network, stage
        self.domain = network.chain.receipts_domain
        self.before, self.gateway = network.wallet("creator").account(), network.wallet("gateway").account()
        stops = [self._stop(name, first) for name, first in ((STAGE, 10), ("provider-3", 20))]
        self.route = [RouteStop(self.before.address, self.before.address, "grpcs://127.0.0.1:1", "0x", 0, 10), *stops]

    def _stop(self, name: str, first: int) -> RouteStop:
        info = info_of(self.network, name)
        return RouteStop(self.network.address(name), info["operator"], info["endpoint"], "0x" + info["tlsCertHash"].hex(), first, first + 10)

    def offer(self, **changes: Any) -> SessionOffer:
        """An order like an honest gateway's, but for ``changes``."""
        chain, provider, salt = self.network.chain, self.network.address(STAGE), secrets.token_bytes(32)
        own = chain.call("ProviderRegistry", "offersOf", provider)[0]
        offer = SessionOffer(
            job_id=secrets.token_bytes(32),
            payer=self.network.address("payer"),
            gateway=self.gateway.address,
            provider=provider,
            model_id=self.network.manifest.model_id,
            first_layer=10,
            end_layer=20,
            execution_class=execution_class_id("float32/sdpa"),
            epoch=0,
            input_price=own[4],
            cached_price=own[5],
            output_price=own[6],
            first_position=0,
            generated=0,
            prompt_tokens=len(PROMPT),
            max_tokens=4,
            cached_tokens=0,
            prefix_job=ZERO32,
            prompt_root=prompt_root(salt, PROMPT),
            sampling_hash=SamplingParameters().digest(),
            route_hash=route_hash(self.route),
            salt=salt,
            expires_at=chain.now() + 600,
        )
        return replace(offer, **changes)

    async def open(self, offer: SessionOffer, bulk: bool = False) -> SessionOffer:
        signed = Signed.of(offer, offer.sign(self.domain, bytes(self.gateway.key)))
        sampling = msgspec.to_builtins(SamplingParameters(), str_keys=True)
        await self.stage.call("Open", OpenRequest(signed, self.route, sampling, [], bulk=bulk), OpenReply)
        return offer

    async def send(self, offer: SessionOffer, *frames: Frame) -> str:
        """Attach as the stage before and send; why the stage ends the stream, empty where it does not within two seconds."""
        stream = self.stage.rows()
        try:
            for frame in (Frame(Kind.ATTACH, offer.job_id), *frames):
                await stream.write(frame.encode())
            while True:
                await asyncio.wait_for(stream.read(), 2)
                if stream.done():
                    return str(await stream.details())
        except TimeoutError:
            return ""
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return str(await stream.details())
        finally:
            stream.cancel()

    async def progress(self, offer: SessionOffer) -> SessionProgress:
        return await self.stage.call("Progress", AttachRequest(offer.job_id.hex(), 0), SessionProgress)

    async def abort(self, offer: SessionOffer) -> None:
        await self.stage.call("Abort", AttachRequest(offer.job_id.hex(), 0), AttachRequest)


def info_of(network: Network, name: str) -> dict[str, Any]:
    return struct_values("ProviderRegistry", "providerInfo", network.chain.call("ProviderRegistry", "providerInfo", network.address(name)))


@pytest.fixture
async def hostile(network: Network) -> AsyncIterator[Hostile]:
    info = info_of(network, STAGE)
    stage = await StageClient.connect(info["endpoint"], info["tlsCertHash"])
    try:
        yield Hostile(network, stage)
    finally:
        await stage.close()


def rows(count: int = 3, dtype: torch.dtype = torch.float32, width: int = HIDDEN) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1)).to(dtype)


def frame_of(offer: SessionOffer, sent: torch.Tensor, position: int = 0, dtype: str = "float32", **more: Any) -> Frame:
    return Frame(Kind.ROWS, offer.job_id, b"".join(rows_to_bytes(sent)), dtype, position=position, rows=len(sent), hidden=sent.shape[1], **more)


def with_nan(_: SessionOffer) -> torch.Tensor:
    broken = rows()
    broken[1, 7] = torch.nan
    return broken


SENT: dict[str, tuple[Callable[[SessionOffer], Frame], str]] = {
    "not a number": (lambda o: frame_of(o, with_nan(o)), "not all finite"),
    "infinite": (lambda o: frame_of(o, rows() * torch.inf), "not all finite"),
    "another dtype": (lambda o: frame_of(o, rows(dtype=torch.bfloat16), dtype="bfloat16"), "expected position 0 as float32, got 0 as bfloat16"),
    "another width": (lambda o: frame_of(o, rows(width=64)), "rows of width 64 do not fit a model of width 576"),
    "a gap": (lambda o: frame_of(o, rows(), position=5), "expected position 0 as float32, got 5"),
    "too many rows": (lambda o: frame_of(o, rows(8)), "8 rows exceed the 3 \\+ 4 of the offer"),
    "more rows than a frame takes": (
        lambda o: frame_of(o, rows(FRAME_ROWS + 1)),
        f"a frame of {FRAME_ROWS + 1} rows; {FRAME_ROWS} are taken at once",
    ),
    "another epoch": (lambda o: frame_of(o, rows(), epoch=3), "frames of epoch 3 do not count"),
    "fewer bytes than rows": (lambda o: Frame(Kind.ROWS, o.job_id, bytes(7), "float32", rows=3, hidden=HIDDEN), "."),
}


@pytest.mark.parametrize("case", SENT)
async def test_rows__that_no_stage_sends__are_refused_and_nothing_is_signed(hostile: Hostile, case: str) -> None:
    make, words = SENT[case]
    offer = await hostile.open(hostile.offer())
    reason = await hostile.send(offer, make(offer))
    assert re.search(words, reason), reason
    voucher = Voucher(offer.payer, offer.gateway, offer.provider, offer.model_id, 10**24)
    signed = Signed.of(voucher, voucher.sign(hostile.network.chain.settlement_domain, bytes(hostile.gateway.key)))
    with pytest.raises(StageRefused):
        await hostile.stage.call("Close", CloseRequest(offer.job_id.hex(), 0, 1, signed), CloseReply)
    await hostile.abort(offer)


async def test_rows__replayed_step_or_none__count_once_and_not_at_all(hostile: Hostile) -> None:
    offer = await hostile.open(hostile.offer())
    frame = frame_of(offer, rows())
    assert await hostile.send(offer, frame, frame, Frame(Kind.ROWS, offer.job_id, b"", "float32", rows=0, hidden=HIDDEN)) == ""
    assert (await hostile.progress(offer)).rows_in == 3
    await hostile.abort(offer)


async def test_checkpoint__by_somebody_else_over_other_rows_or_as_no_contract_takes_it__ends_the_stream(hostile: Hostile) -> None:
    cases = [
        (hostile.gateway, None, bytes, "is signed by"),
        (hostile.before, b"x" * 32, bytes, "signed root"),
        (hostile.before, None, twin, "upper half"),
    ]
    for key, root, change, words in cases:
        offer = await hostile.open(hostile.offer())
        sent = rows()
        leaves = [row_leaf(offer.salt, 10, i, "float32", payload) for i, payload in enumerate(rows_to_bytes(sent))]
        point = Checkpoint(offer.job_id, hostile.before.address, 0, 0, 10, 0, 3, ZERO32, root or row_tree_root(leaves), ZERO32)
        signed = Signed.of(point, change(point.sign(hostile.domain, bytes(key.key))))
        reason = await hostile.send(offer, frame_of(offer, sent, flags=1), Frame(Kind.CHECKPOINT, offer.job_id, msgspec.json.encode(signed)))
        assert words in reason
        await hostile.abort(offer)


async def test_stream__to_a_session_that_is_not_open__is_refused(hostile: Hostile) -> None:
    assert "no session" in await hostile.send(hostile.offer())
    stream = hostile.stage.rows()
    await stream.write(b"\x09 no frame of ours")
    with pytest.raises(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            continue
        raise grpc.aio.AioRpcError(await stream.code(), None, None, await stream.details())  # type: ignore[arg-type]


ORDERS: dict[str, tuple[dict[str, Any], str]] = {
    "below the price": ({"output_price": 1}, "are asked on chain"),
    "for nothing": ({"input_price": 0, "cached_price": 0, "output_price": 0}, "are asked on chain"),
    "other layers": ({"end_layer": 19}, "layers 10-19 are not served here"),
    "another model": ({"model_id": b"m" * 32}, "is not served here"),
    "another class": ({"execution_class": execution_class_id("bfloat16/sdpa")}, "not offered in this class"),
    "another provider": ({"provider": "0x" + "11" * 20}, "provider is"),
    "expired": ({"expires_at": 1}, "expired"),
    "a payer without a limit": ({"payer": "0x" + "22" * 20}, "has 0 wei within its limit"),
    "more than the payer has": ({"output_price": 10**30}, "within its limit for this gateway"),
    "rows of a job that was never here": ({"cached_tokens": 2, "prefix_job": b"x" * 32}, "no rows of job 7878787878787878 are kept here"),
    "a longer answer than there is room for": ({"max_tokens": 2**31}, r"may need \d+ bytes of KV cache, 0 of 2000000000 are taken"),
}


@pytest.mark.parametrize("case", ORDERS)
async def test_order__that_does_not_pay_or_fit__is_refused_with_its_numbers(hostile: Hostile, case: str) -> None:
    changes, words = ORDERS[case]
    with pytest.raises(StageRefused, match=words):
        await hostile.open(hostile.offer(**changes))


async def test_order__at_the_share_for_bulk_work__is_taken_as_such_alone(hostile: Hostile) -> None:
    offer = hostile.offer()
    half = {name: bulk_price(getattr(offer, name), 50) for name in ("input_price", "cached_price", "output_price")}
    with pytest.raises(StageRefused, match="are asked on chain"):
        await hostile.open(hostile.offer(**half))
    with pytest.raises(StageRefused, match="are asked for bulk work"):
        await hostile.open(hostile.offer(**{**half, "output_price": half["output_price"] - 1}), bulk=True)
    await hostile.abort(await hostile.open(hostile.offer(**half), bulk=True))


async def test_session__opened_before__is_never_opened_again(hostile: Hostile) -> None:
    """A stage that forgot could be made to sign two things about the same rows."""
    offer = await hostile.open(hostile.offer())
    await hostile.abort(offer)
    with pytest.raises(StageRefused, match="was opened before"):
        await hostile.open(replace(offer, max_tokens=3))


def test_honest_work__beside_all_this__goes_on(network: Network) -> None:
    client = openai.OpenAI(base_url=f"{network.gateway_url}/v1", api_key=network.api_key, max_retries=0, timeout=120)
    assert network.address(STAGE) in {entry["receipt"]["message"]["provider"] for entry in extra(ask(client, max_tokens=2))["receipts"]}
