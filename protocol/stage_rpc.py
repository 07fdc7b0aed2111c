"""Client side of a stage's gRPC service, with the server's certificate pinned to the hash that its provider registered."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncGenerator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import msgspec

from protocol import ProtocolError
from protocol.batches import ReceiptBatch
from protocol.wire import SERVICE, BatchAsk, BatchReply, RouteStop

R = TypeVar("R")
OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # A stage that was restarted is found again at once, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
TLS_NAME = "stage.funcnet"
"""The name in every stage's self-signed certificate; identity comes from the pinned hash alone."""


class StageUnavailable(ProtocolError):
    """The stage cannot be reached, or shows another certificate than it registered. A retry elsewhere can help."""


class StageRefused(ProtocolError):
    """The stage answered with an error; its words say why."""


class StageClient:
    """One channel to one stage. Endpoints are ``grpcs://HOST:PORT``."""

    def __init__(self, channel: grpc.aio.Channel, endpoint: str) -> None:
        self.channel = channel
        self.endpoint = endpoint
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, endpoint: str, tls_cert_hash: bytes) -> "StageClient":
        """Fetch the certificate, compare it with the hash, and only then trust it. Raises StageUnavailable."""
        try:
            url = urlsplit(endpoint)
            if url.scheme != "grpcs" or not url.hostname or not url.port:
                raise ValueError
        except ValueError:
            raise StageUnavailable(f"endpoint {endpoint!r} is not of the form grpcs://HOST:PORT") from None
        try:
            pem = await asyncio.to_thread(ssl.get_server_certificate, (url.hostname, url.port), timeout=5)
        except (OSError, ValueError) as error:
            raise StageUnavailable(f"no stage answers at {endpoint} ({error})") from error
        if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() != tls_cert_hash:
            raise StageUnavailable(f"{endpoint} shows another certificate than its provider registered")
        credentials = grpc.ssl_channel_credentials(root_certificates=pem.encode())
        options = [*OPTIONS, ("grpc.ssl_target_name_override", TLS_NAME)]
        return cls(grpc.aio.secure_channel(f"{url.hostname}:{url.port}", credentials, options), endpoint)

    @classmethod
    async def to(cls, stop: RouteStop) -> "StageClient":
        """Connect to a stage on a route. Raises StageUnavailable."""
        return await cls.connect(stop.endpoint, bytes.fromhex(stop.tls_cert_hash.removeprefix("0x")))

    async def call(self, method: str, request: msgspec.Struct, reply: type[R], timeout: float = 20) -> R:
        """A unary call. Raises StageUnavailable or StageRefused."""
        try:
            raw = await self.channel.unary_unary(f"/{SERVICE}/{method}")(msgspec.json.encode(request), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.endpoint) from error
        try:
            return msgspec.json.decode(raw, type=reply)
        except msgspec.MsgspecError as error:
            raise StageRefused(f"{self.endpoint} answers {method} with what is no {reply.__name__}: {error}") from error

    async def batch(self, batch_id: int, timeout: float = 20) -> ReceiptBatch:
        """An anchored batch, as its provider shows it. Raises StageUnavailable or StageRefused."""
        reply = await self.call("Batch", BatchAsk(batch_id), BatchReply, timeout)
        try:
            return ReceiptBatch.of(reply)
        except ValueError as error:
            raise StageRefused(f"{self.endpoint} gives for batch {batch_id} what is no list of receipts: {error}") from error

    async def ship(self, raw: bytes, timeout: float = 20) -> None:
        """Give the stage a signed file of keys and values. Raises StageUnavailable or StageRefused."""
        try:
            await self.channel.unary_unary(f"/{SERVICE}/Ship")(raw, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.endpoint) from error

    def rows(self) -> Any:
        """The bidirectional stream of frames."""
        return self.channel.stream_stream(f"/{SERVICE}/Rows")()

    async def stream(self, method: str, request: msgspec.Struct, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """A call that answers with a stream and ends with its reader; ``timeout``: seconds for all of it. Raises StageUnavailable or StageRefused."""
        call = self.channel.unary_stream(f"/{SERVICE}/{method}")(msgspec.json.encode(request), timeout=timeout)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise translate(error, self.endpoint) from error
        finally:
            call.cancel()

    def broken(self) -> "asyncio.Task[None]":
        """Done as soon as there is no connection any more: that of a process that died ends with it. One task for all that wait."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._connected())
        return self._watch

    async def _connected(self) -> None:
        while (state := self.channel.get_state()) is grpc.ChannelConnectivity.READY:
            await self.channel.wait_for_state_change(state)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await self.channel.close()


class StageClients:
    """One channel to each stage for all jobs: two handshakes are not done anew for each. A channel that failed is given up with ``forget``."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str, str], asyncio.Task[StageClient]] = {}

    async def to(self, stop: RouteStop) -> StageClient:
        """Connect to a stage on a route, or use the connection that there is. Raises StageUnavailable."""
        key = stop.endpoint, stop.tls_cert_hash
        known = self._clients.get(key)
        if known is None or (known.done() and _is_dead(known)):
            known = self._clients[key] = asyncio.create_task(StageClient.to(stop))
        return await asyncio.shield(known)

    def forget(self, stop: RouteStop) -> None:
        """The next job connects anew; those that still use the channel go on with it."""
        self._clients.pop((stop.endpoint, stop.tls_cert_hash), None)

    async def close(self) -> None:
        tasks = list(self._clients.values())
        self._clients.clear()
        for client in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(client, StageClient):
                await client.close()


def _is_dead(known: "asyncio.Task[StageClient]") -> bool:
    """Whether a connection never came to be, or broke and waits before it is tried again: the stage may be back, and a new one finds it at once."""
    if known.cancelled() or known.exception() is not None:
        return True
    return known.result().channel.get_state() in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


def translate(error: grpc.aio.AioRpcError, endpoint: str) -> ProtocolError:
    """gRPC's status as one of ours: what a retry elsewhere can help, and what not."""
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return StageUnavailable(f"{endpoint}: {error.details()}")
    return StageRefused(f"{endpoint}: {error.details()}")
