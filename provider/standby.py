"""A warm standby: keys and values go to another agent of the same operator while a session runs, which goes on from them in this one's place.

Nobody can tell from keys and values whether they are right, and a stage answers for what it sends whatever it computed from: so an agent takes them
from providers alone that its operator names. What it takes them for, the rows in, comes from the stage before as ever, and is compared.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec
import structlog

from inference.portable import BlockHashes, KvBlocks, NotPortable
from protocol import ProtocolError
from protocol.chain import Chain, struct_values
from protocol.receipts import KvShipment, SessionOffer
from protocol.stage_rpc import StageClient, StageClients, StageUnavailable
from protocol.typed import Signed
from protocol.units import LayerRange
from protocol.wire import RouteStop
from provider import Refused
from provider.session import Signer
from provider.shipping import Importing

log = structlog.get_logger()

LENGTH_BYTES = 4
WAITING = 256
"""Files that may wait to be sent; a session whose file finds no room is not shipped any further."""
IDLE_SECONDS = 300
"""After so long without news of a job its keys and values are dropped."""
TRUSTED_SECONDS = 60
"""For how long an operator key is taken for its provider's, which may rotate it."""


@dataclass
class Shipper:
    """Sends what sessions ship to the standby, one file after another. A job of which one was not taken is not shipped any further."""

    chain: Chain
    signer: Signer
    standby: str
    """The provider that is to stand in."""
    clients: StageClients = field(default_factory=StageClients)
    lost: set[bytes] = field(default_factory=set)
    _waiting: "asyncio.Queue[tuple[bytes, KvBlocks]]" = field(default_factory=lambda: asyncio.Queue(WAITING))
    _stop: RouteStop | None = None
    """Where the standby is, as the chain said; asked again after a file that did not get there."""

    def put(self, job_id: bytes, blocks: KvBlocks) -> None:
        if job_id in self.lost:
            return
        try:
            self._waiting.put_nowait((job_id, blocks))
        except asyncio.QueueFull:
            self._lose(job_id, f"{WAITING} files wait to be sent")

    def done(self, job_id: bytes) -> None:
        """The job is over."""
        self.lost.discard(job_id)

    async def run(self) -> None:
        while True:
            job_id, blocks = await self._waiting.get()
            if job_id in self.lost:
                continue
            try:
                await self._send(job_id, blocks)
            except ProtocolError as error:
                self._lose(job_id, str(error))

    async def _send(self, job_id: bytes, blocks: KvBlocks) -> None:
        if (stop := self._stop) is None:
            stop = await asyncio.to_thread(self._standby_at, blocks.layers)
        raw = await asyncio.to_thread(self._file, job_id, blocks)
        try:
            client: StageClient = await self.clients.to(stop)
            await client.ship(raw)
            self._stop = stop
        except StageUnavailable:
            self.clients.forget(stop)
            self._stop = None
            raise

    def _file(self, job_id: bytes, blocks: KvBlocks) -> bytes:
        raw = blocks.encode()
        shipment = KvShipment(job_id, self.signer.provider, self.standby, blocks.first, blocks.end, hashlib.sha256(raw).digest())
        header = msgspec.json.encode(Signed.of(shipment, shipment.sign(self.signer.domain, self.signer.key)))
        return len(header).to_bytes(LENGTH_BYTES, "little") + header + raw

    def _standby_at(self, layers: LayerRange) -> RouteStop:
        info = struct_values("ProviderRegistry", "providerInfo", self.chain.call("ProviderRegistry", "providerInfo", self.standby))
        return RouteStop(self.standby, info["operator"], info["endpoint"], "0x" + info["tlsCertHash"].hex(), layers.first, layers.end)

    def _lose(self, job_id: bytes, reason: str) -> None:
        self.lost.add(job_id)
        log.warning("standby has no keys and values of a job", job=job_id.hex()[:16], standby=self.standby, reason=reason)


@dataclass
class Held:
    """One job's keys and values so far."""

    blocks: list[KvBlocks] = field(default_factory=list)
    size: int = 0
    touched: float = field(default_factory=time.monotonic)

    @property
    def end(self) -> int:
        return self.blocks[-1].end if self.blocks else 0


@dataclass
class Standby:
    """Keeps what other agents of this operator ship, up to ``budget`` bytes; the job that was heard of longest ago goes first."""

    chain: Chain
    signer: Signer
    trusted: Collection[str]
    model_id: bytes
    layers: LayerRange
    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    """Of each tensor without its rows."""
    budget: int
    _held: OrderedDict[bytes, Held] = field(default_factory=OrderedDict)
    _operators: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(held.size for held in self._held.values())

    async def take(self, raw: bytes) -> None:
        """Keep a file: the signed KvShipment, its length before it, then the file. Raises Refused, BadSignature or ValueError."""
        signed, file, digest = await asyncio.to_thread(_parts, raw)
        shipment = KvShipment.from_json(signed.message)
        if shipment.provider not in self.trusted:
            raise Refused(f"keys and values of {shipment.provider} are not taken; its operator's other agents name it in FUNCNET_KV_FROM")
        if shipment.standby != self.signer.provider or shipment.file_hash != digest:
            raise Refused("the file is not the one that is signed for, or is for another provider")
        await self._require_operator(shipment.provider, shipment.signer(self.signer.domain, signed.signature_bytes))
        try:
            blocks = await asyncio.to_thread(KvBlocks.decode, file)
            blocks.require(self.model_id, self.layers, self.dtype, self.shapes)
        except NotPortable as error:
            raise Refused(str(error)) from error
        self._keep(shipment.job_id, blocks, len(file))

    def _keep(self, job_id: bytes, blocks: KvBlocks, size: int) -> None:
        late = time.monotonic() - IDLE_SECONDS
        for old in [job for job, held in self._held.items() if held.touched < late]:
            self._held.pop(old)
        held = self._held.get(job_id, Held())
        if blocks.first != held.end:
            raise Refused(f"rows from {blocks.first} on came, those from {held.end} on are missing")
        if held.size + size > self.budget:
            self._held.pop(job_id, None)
            raise Refused(f"{held.size + size:,} bytes for one job, {self.budget:,} are kept for all (FUNCNET_STANDBY_BYTES)")
        held.blocks.append(blocks)
        held.size, held.touched = held.size + size, time.monotonic()
        self._held[job_id] = held
        self._held.move_to_end(job_id)
        while self.size > self.budget:
            self._held.popitem(last=False)

    def of(self, offer: SessionOffer) -> Importing | None:
        """What is here of a job whose beginning others served; it is not kept any longer."""
        held = self._held.pop(offer.job_id, None)
        if held is None or not offer.first_position:
            return None
        return Importing(held.blocks, BlockHashes(self.model_id, self.layers, self.dtype), offer.first_position)

    async def _require_operator(self, provider: str, operator: str) -> None:
        key, now = (provider, operator), time.monotonic()
        if self._operators.get(key, -TRUSTED_SECONDS) + TRUSTED_SECONDS > now:
            return
        if await asyncio.to_thread(self.chain.call, "ProviderRegistry", "providerOf", operator) != provider:
            raise Refused(f"{operator} is no operator of {provider}")
        self._operators[key] = now


def _parts(raw: bytes) -> tuple[Signed, bytes, bytes]:
    """The header, the file behind it, and the file's SHA-256. Raises ValueError."""
    start = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little")
    file = raw[start:]
    return msgspec.json.decode(raw[LENGTH_BYTES:start], type=Signed), file, hashlib.sha256(file).digest()
