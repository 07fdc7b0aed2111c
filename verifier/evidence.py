"""Fetch a receipt's rows and check them against what was signed. Design section 4, "Evidence"."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec
import structlog
from eth_account.signers.local import LocalAccount

from protocol import BadSignature, Reverted
from protocol.batches import ReceiptBatch
from protocol.chain import Chain, struct_values
from protocol.receipts import (
    EXECUTION_CLASSES,
    CheckOrder,
    Checkpoint,
    EvidenceRequest,
    RouteUpdate,
    SessionOffer,
    StageReceipt,
    wire_dtype_of,
)
from protocol.rows import CHECKPOINT_EVERY, TOKEN_DTYPE, prompt_root, row_leaf
from protocol.sampling import SamplingParameters
from protocol.stage_rpc import StageClient, StageRefused, StageUnavailable
from protocol.trees import row_tree_root, verify_batch_proof
from protocol.typed import ZERO32, Signed
from protocol.wire import AnchoredReceipt, EvidenceAsk, EvidenceHead, NeighbourHead, route_hash
from verifier import EvidenceBad, EvidenceMissing

log = structlog.get_logger()
H = TypeVar("H", EvidenceHead, NeighbourHead)

REQUEST_SECONDS = 120
ROWS_IN, ROWS_OUT = 0, 1
STREAMS, STREAM_SECONDS = 8, 60
"""How often a stream that breaks off is resumed, and how long each may take: a slow provider must not hold a worker up for ever."""
MOST_ROW_BYTES = 1 << 20
"""A row of 2^17 channels in float64: more than any model has."""


@dataclass(frozen=True)
class Evidence:
    """One part of a receipt's evidence, checked.

    ``payloads``: each row's bytes as sent; ``before``: completion tokens before the session; ``prompt``: the prompt's, where a stage at an end of the
    pipeline shows its own evidence; ``upstream``: with rows in, the checkpoints by the stages before that they are bound to.
    """

    receipt: StageReceipt
    checkpoint: Checkpoint
    offer: SessionOffer
    sampling: SamplingParameters
    payloads: list[bytes]
    before: list[int]
    prompt: list[int] = field(default_factory=list)
    upstream: Sequence[Signed] = ()


@dataclass(frozen=True)
class Place:
    """Where a receipt lies: in which batch, and who served beside its stage in the job, as far as batches were shown.

    ``before`` sent the rows in, for the first stage as tokens by the last; ``after`` received the rows out.
    """

    batch: ReceiptBatch
    batch_id: int
    index: int
    before: Sequence[str] = ()
    after: Sequence[str] = ()

    @property
    def receipt(self) -> StageReceipt:
        return self.batch.receipts[self.index]

    @property
    def anchored(self) -> AnchoredReceipt:
        proof = ["0x" + sibling.hex() for sibling in self.batch.tree.proof(self.index)]
        return AnchoredReceipt(self.receipt.to_json(), self.batch_id, proof)


Placing = Callable[[], Place | None]
"""Looks a receipt's place up: only where its provider does not answer, since a batch may be long."""


def nowhere() -> None:
    """The place of a receipt whose batch was not shown."""


@dataclass
class EvidenceClient:
    """Asks providers in one verifier's name."""

    chain: Chain
    account: LocalAccount

    async def batch(self, provider: str, batch_id: int) -> ReceiptBatch:
        """An anchored batch, which must have its root. Raises EvidenceMissing or EvidenceBad."""
        client = await self._connect(provider)
        try:
            batch = await client.batch(batch_id)
        except (StageUnavailable, StageRefused) as error:
            raise EvidenceMissing(str(error)) from error
        finally:
            await client.close()
        anchored = self.chain.call("CommitmentLog", "batch", provider, batch_id)
        if batch.tree.root != anchored[0]:
            raise EvidenceBad(f"the receipts that {provider} gives for batch {batch_id} do not have its root")
        return batch

    async def rows(
        self,
        provider: str,
        number: int,
        part: int,
        duty_signature: bytes,
        dispute_id: int,
        commitment: bytes = ZERO32,
        place: Placing = nowhere,
        order: Signed | None = None,
    ) -> Evidence:
        """Rows in or out of a receipt, from its provider or else from a neighbour in the job. A receipt with a CheckOrder need not be anchored.

        Raises EvidenceMissing or EvidenceBad.
        """
        request = EvidenceRequest(self.account.address, provider, number, part, commitment, self.chain.now() + REQUEST_SECONDS)
        signed = Signed.of(request, request.sign(self.chain.receipts_domain, bytes(self.account.key)))
        ask = EvidenceAsk(signed, "0x" + duty_signature.hex(), dispute_id, order=order)
        try:
            head, raw = await self._whole(provider, ask, EvidenceHead)
            with _wrong_is_bad():
                return self._check(provider, number, part, head, raw, order)
        except EvidenceMissing:
            found = place()
            if found is None or (shared := await self._from_neighbours(found, part, ask)) is None:
                raise
            return shared

    async def _from_neighbours(self, place: Place, part: int, ask: EvidenceAsk) -> Evidence | None:
        """The rows by whoever sent or received them, None where nobody has them; what a neighbour gets wrong is no fault of the provider."""
        shared = msgspec.structs.replace(ask, of=place.anchored)
        for neighbour in place.before if part == ROWS_IN else place.after:
            try:
                head, raw = await self._whole(neighbour, shared, NeighbourHead)
                with _wrong_is_bad():
                    return self._check_shared(place, part, head, raw)
            except (EvidenceMissing, EvidenceBad) as error:
                said = {"neighbour": neighbour, "provider": place.receipt.provider, "number": place.receipt.number}
                log.info("not from a neighbour either", **said, reason=str(error))
        return None

    async def _whole(self, provider: str, ask: EvidenceAsk, kind: type[H]) -> tuple[H, bytes]:
        """An evidence stream's head and all of its rows; one that breaks off is resumed where it stopped. Raises EvidenceMissing or EvidenceBad."""
        raw, broke_off = bytearray(), ""
        for _ in range(STREAMS):
            had = len(raw)
            try:
                head = await self._stream(provider, msgspec.structs.replace(ask, offset=had), raw, kind)
                return head, bytes(raw)
            except StageUnavailable as error:
                broke_off = str(error)
                if len(raw) == had:
                    break
            except StageRefused as error:
                raise EvidenceMissing(str(error)) from error
        raise EvidenceMissing(broke_off)

    async def _stream(self, provider: str, ask: EvidenceAsk, raw: bytearray, kind: type[H]) -> H:
        """Append what a stream gives to ``raw``, never more than its head announces. Raises StageUnavailable, StageRefused or EvidenceBad."""
        client = await self._connect(provider)
        head: H | None = None
        try:
            async for message in client.stream("Evidence", ask, STREAM_SECONDS):
                if head is None:
                    head = _head(message, kind, ask)
                    continue
                raw += message
                if len(raw) > head.row_count * head.row_bytes:
                    raise EvidenceBad(f"{provider} sends more than the {head.row_count} rows of {head.row_bytes} bytes that it announced")
        finally:
            await client.close()
        if head is None:
            raise StageUnavailable(f"{provider} served nothing")
        return head

    def _check(self, provider: str, number: int, part: int, head: EvidenceHead, raw: bytes, order: Signed | None) -> Evidence:
        """Everything from the anchored root, or the receipt that was ordered to be checked, down to the rows. Raises EvidenceBad, BadSignature or
        ValueError."""
        domain = self.chain.receipts_domain
        receipt, point = StageReceipt.from_json(head.receipt.message), Checkpoint.from_json(head.checkpoint.message)
        offer, sampling = SessionOffer.from_json(head.offer.message), SamplingParameters.from_json(head.sampling)
        operator = point.signer(domain, head.checkpoint.signature_bytes)
        offer.require_signer(domain, head.offer.signature_bytes, receipt.gateway)
        wrong = {
            "the receipt is another": (receipt.provider, receipt.number) != (provider, number),
            "the receipt is not under the anchored root, or not the one to be checked": not self._is_meant(receipt, head, order),
            "the checkpoint is not the receipt's": point.struct_hash() != receipt.checkpoint,
            "the checkpoint is not by the provider": self.chain.call("ProviderRegistry", "providerOf", operator) != provider,
            "the offer is for another stage": (offer.job_id, offer.provider, offer.layers) != (receipt.job_id, provider, receipt.layers),
            "the first position is not the one that was ordered": len({offer.first_position, point.first_position, receipt.first_position}) > 1,
            "the tokens before it are not the offer's": bool(head.prompt) and prompt_root(offer.salt, head.prompt) != offer.prompt_root,
            "the sampling parameters are not the offer's": sampling.digest() != offer.sampling_hash,
            "the execution class is not known": offer.execution_class not in EXECUTION_CLASSES,
            "the checkpoint names another one by the stage before": point.upstream not in {ZERO32, *map(_point_hash, head.upstream)},
        }
        for words, is_wrong in wrong.items():
            if is_wrong:
                raise EvidenceBad(f"receipt {number} of {provider}: {words}")
        payloads = _split(raw, head.row_bytes, head.row_count)
        leaves = _leaves(offer, point, part, payloads)
        upstream: list[Signed] = []
        if part == ROWS_IN and offer.first_layer:
            self._require_sent(head, offer, leaves)
            upstream = head.upstream
        cut = offer.prompt_tokens
        return Evidence(receipt, point, offer, sampling, payloads, head.prompt[cut:], head.prompt[:cut], upstream)

    def _is_meant(self, receipt: StageReceipt, head: EvidenceHead, order: Signed | None) -> bool:
        if order is not None:
            return receipt.struct_hash() == CheckOrder.from_json(order.message).receipt
        batch = struct_values("CommitmentLog", "batch", self.chain.call("CommitmentLog", "batch", receipt.provider, head.batch_id))
        proof = [bytes.fromhex(sibling.removeprefix("0x")) for sibling in head.proof]
        return verify_batch_proof(batch["root"], receipt.struct_hash(), proof)

    def _check_shared(self, place: Place, part: int, head: NeighbourHead, raw: bytes) -> Evidence:
        """Rows that a neighbour shows have the root that the receipt's own checkpoint signs. Raises EvidenceBad, BadSignature or ValueError."""
        receipt, point = place.receipt, place.batch.checkpoints[place.index]
        shown, sampling = SessionOffer.from_json(head.offer.message), SamplingParameters.from_json(head.sampling)
        shown.require_signer(self.chain.receipts_domain, head.offer.signature_bytes, receipt.gateway)
        if shown.job_id != receipt.job_id or sampling.digest() != shown.sampling_hash or receipt.execution_class not in EXECUTION_CLASSES:
            raise EvidenceBad(f"receipt {receipt.number} of {receipt.provider}: the neighbour shows the offer of another job")
        # What the gateway ordered of this stage differs from what it ordered of the neighbour in what the receipt says.
        offer = replace(
            shown,
            provider=receipt.provider,
            first_layer=receipt.first_layer,
            end_layer=receipt.end_layer,
            execution_class=receipt.execution_class,
            epoch=receipt.epoch,
            first_position=receipt.first_position,
        )
        payloads = _split(raw, head.row_bytes, head.row_count)
        _leaves(offer, point, part, payloads)
        return Evidence(receipt, point, offer, sampling, payloads, [])

    def _require_sent(self, head: EvidenceHead, offer: SessionOffer, leaves: list[bytes]) -> None:
        """Rows in are those that the stages before signed for, in turn: else a stage could answer for the rows of another job.

        Rows after a stage's last checkpoint are bound by nothing, CHECKPOINT_EVERY of them at most; nor are those before a replacement's own first
        position, where the stage before it was a replacement too. Raises EvidenceBad or BadSignature.
        """
        senders, at = self._senders(head, offer), 0
        for signed, point in sorted(((s, Checkpoint.from_json(s.message)) for s in head.upstream), key=lambda item: item[1].first_position):
            first, end = point.first_position, point.first_position + point.count
            operator = point.signer(self.chain.receipts_domain, signed.signature_bytes)
            if operator not in senders or (point.job_id, point.end_layer) != (offer.job_id, offer.first_layer):
                raise EvidenceBad(f"a checkpoint by {operator} is given for the rows in, who was not the stage before")
            if (
                not at <= first <= max(at + CHECKPOINT_EVERY, offer.first_position)
                or end > len(leaves)
                or row_tree_root(leaves[first:end]) != point.root_out
            ):
                raise EvidenceBad(f"rows {first} to {end} are not those that {operator} signed for")
            at = end
        if len(leaves) > at + CHECKPOINT_EVERY:
            raise EvidenceBad(f"rows {at} to {len(leaves)} are not bound to what the stage before sent")

    def _senders(self, head: EvidenceHead, offer: SessionOffer) -> set[str]:
        """Operators that the gateway put before the offer's stage. Raises EvidenceBad or BadSignature."""
        if route_hash(head.route) != offer.route_hash:
            raise EvidenceBad("the route is not the one that the offer names")
        routes = [head.route]
        for request in head.updates:
            update = RouteUpdate.from_json(request.update.message)
            update.require_signer(self.chain.receipts_domain, request.update.signature_bytes, offer.gateway)
            if update.job_id != offer.job_id or update.route_hash != route_hash(request.route):
                raise EvidenceBad("a route update is for another job or route")
            routes.append(request.route)
        return {stop.operator for route in routes for stop in route if stop.end_layer == offer.first_layer}

    async def _connect(self, provider: str) -> StageClient:
        info = struct_values("ProviderRegistry", "providerInfo", self.chain.call("ProviderRegistry", "providerInfo", provider))
        try:
            return await StageClient.connect(info["endpoint"], info["tlsCertHash"])
        except StageUnavailable as error:
            raise EvidenceMissing(str(error)) from error


@contextmanager
def _wrong_is_bad() -> Iterator[None]:
    try:
        yield
    except (BadSignature, Reverted, ValueError) as error:
        raise EvidenceBad(str(error)) from error


def _leaves(offer: SessionOffer, point: Checkpoint, part: int, payloads: Sequence[bytes]) -> list[bytes]:
    """The leaves of rows in or out, which must have the root that the checkpoint signs. Raises EvidenceBad."""
    boundary = offer.first_layer if part == ROWS_IN else offer.end_layer
    dtype = TOKEN_DTYPE if boundary == 0 else wire_dtype_of(EXECUTION_CLASSES[offer.execution_class])
    first = 0 if part == ROWS_IN else offer.first_position
    leaves = [row_leaf(offer.salt, boundary, position, dtype, payload) for position, payload in enumerate(payloads, first)]
    if row_tree_root(leaves) != (point.root_in if part == ROWS_IN else point.root_out):
        raise EvidenceBad(f"job {offer.job_id.hex()[:16]} at {offer.provider}: the rows do not have the signed root")
    return leaves


def _split(raw: bytes, width: int, count: int) -> list[bytes]:
    """``count`` rows of ``width`` bytes. Raises EvidenceBad."""
    if len(raw) != width * count or not raw:
        raise EvidenceBad(f"{len(raw)} bytes came for {count} rows of {width}")
    return [raw[at : at + width] for at in range(0, len(raw), width)]


def _point_hash(signed: Signed) -> bytes:
    return Checkpoint.from_json(signed.message).struct_hash()


def _head(raw: bytes, kind: type[H], ask: EvidenceAsk) -> H:
    """Decode an evidence stream's head and hold it to what rows of a job can be. Raises EvidenceBad."""
    try:
        head = msgspec.json.decode(raw, type=kind)
        rows = StageReceipt.from_json(head.receipt.message if isinstance(head, EvidenceHead) else ask.of.message if ask.of else {})
    except (msgspec.MsgspecError, ValueError) as error:
        raise EvidenceBad(f"the evidence has no head: {error}") from error
    if not 0 < head.row_bytes <= MOST_ROW_BYTES or not 0 < head.row_count <= rows.first_position + rows.position_count:
        raise EvidenceBad(f"{head.row_count} rows of {head.row_bytes} bytes are announced for {rows.position_count} positions")
    return head
