"""Evidence on its way out: the rows of an own receipt, or those that a neighbour's receipt shares with a job that was served here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from protocol.receipts import SessionOffer
from protocol.rows import token_payload
from protocol.units import LayerRange
from protocol.wire import EvidenceAsk, EvidenceHead, NeighbourHead
from provider import Refused
from provider.access import EvidenceAccess, Granted
from provider.closing import TOKEN_BYTES
from provider.evidence import EvidenceMeta, EvidenceStore, Span
from provider.ledger import Ledger

GONE = "the rows of this receipt were dropped: nobody had drawn or pinned it when its window ended"


@dataclass(frozen=True)
class Shown:
    """A stream's head, encoded, and the rows behind it: a span of a file, or bytes where there is no file of them."""

    head: bytes
    rows: Span | bytes

    def chunks(self, offset: int) -> Iterator[bytes]:
        """The rows from byte ``offset`` on."""
        if isinstance(self.rows, Span):
            yield from self.rows.chunks(offset)
        elif offset < len(self.rows):
            yield self.rows[max(0, offset) :]


@dataclass
class Showing:
    """Finds what an ask may have."""

    evidence: EvidenceStore
    access: EvidenceAccess
    ledger: Ledger
    layers: LayerRange

    def show(self, ask: EvidenceAsk) -> Shown:
        """Raises Refused or BadSignature."""
        granted = self.access.grant(ask)
        try:
            return self._own(granted) if granted.stored is not None else self._shared(granted)
        except FileNotFoundError:
            raise Refused(GONE) from None

    def _own(self, granted: Granted) -> Shown:
        stored = granted.stored
        assert stored is not None
        folder = self.evidence.root / stored.folder
        meta = self.evidence.meta(folder)
        name, count = ("out.rows", meta.rows_out) if granted.part else ("in.rows", meta.rows_in)
        rows = Span.of(folder / name)
        request = meta.open_request
        head = EvidenceHead(
            receipt=stored.signed,
            checkpoint=meta.checkpoint,
            offer=request.offer,
            sampling=request.sampling,
            prompt=request.prompt,
            batch_id=granted.batch_id or 0,
            proof=["0x" + sibling.hex() for sibling in self.access.proof(stored)],
            row_bytes=rows.size // count,
            row_count=count,
            route=request.route,
            updates=meta.updates,
            upstream=meta.upstream,
        )
        return Shown(msgspec.json.encode(head), rows)

    def _shared(self, granted: Granted) -> Shown:
        """Rows that the receipt's stage was sent by this one, or that it sent here; the tokens that it was fed, where this is the last stage.

        Raises Refused or FileNotFoundError.
        """
        receipt = granted.receipt
        folder = self.evidence.session_of(receipt.job_id, self.layers.first)
        meta = self.evidence.meta(folder)
        self._require_neighbour(granted, meta)
        count = receipt.position_count if granted.part else receipt.first_position + receipt.position_count
        if granted.part and receipt.end_layer == self.layers.first:
            rows: Span | bytes = _cut(folder / "in.rows", meta.rows_in, receipt.first_position, count)
        elif not granted.part and receipt.first_layer == self.layers.end and meta.rows_out == meta.rows_in:
            rows = _cut(folder / "out.rows", meta.rows_out, 0, count)
        elif not granted.part and not receipt.first_layer and meta.open_request.route[-1].end_layer == self.layers.end:
            rows = _tokens_fed(folder, meta, count)
        else:
            raise Refused(f"these rows of receipt {receipt.number} of {receipt.provider} were never here")
        # Whoever asks the neighbours may ask again: the rows are kept as if this stage's own receipt had been drawn.
        if (stored := self.ledger.receipt_of(folder.name)) is not None:
            self.ledger.pin(stored.number)
        size = rows.size if isinstance(rows, Span) else len(rows)
        head = NeighbourHead(meta.open_request.offer, meta.open_request.sampling, size // count, count)
        return Shown(msgspec.json.encode(head), rows)

    def _require_neighbour(self, granted: Granted, meta: EvidenceMeta) -> None:
        """The receipt is by a stage that the gateway put into this job: anybody can anchor one that names somebody else's job. Raises Refused."""
        receipt, offer = granted.receipt, SessionOffer.from_json(meta.open_request.offer.message)
        routes = [meta.open_request.route, *(update.route for update in meta.updates)]
        stops = {(stop.provider, stop.first_layer, stop.end_layer) for route in routes for stop in route}
        same_job = (receipt.payer, receipt.gateway, receipt.model_id) == (offer.payer, offer.gateway, offer.model_id)
        if not same_job or (receipt.provider, receipt.first_layer, receipt.end_layer) not in stops:
            raise Refused(f"{receipt.provider} was not on the route of job {receipt.job_id.hex()[:16]} here")


def _cut(file: Path, kept: int, first: int, count: int) -> Span:
    """``count`` rows from row ``first`` on of a file that has ``kept``. Raises Refused where they are not all there."""
    if first + count > kept:
        raise Refused(f"{kept} of these rows were here, {first + count} are asked for")
    whole = Span.of(file)
    width = whole.size // kept
    return Span(file, first * width, count * width)


def _tokens_fed(folder: Path, meta: EvidenceMeta, count: int) -> bytes:
    """What the first stage was fed: the tokens that were known when this session began, then those that were sampled here. Raises Refused."""
    rows = (folder / "out.rows").read_bytes()
    width = len(rows) // meta.rows_out
    marks = (int.from_bytes(rows[end - TOKEN_BYTES : end], "little", signed=True) for end in range(width, len(rows) + 1, width))
    tokens = [*meta.open_request.prompt, *(token for token in marks if token >= 0)]
    if len(tokens) < count:
        raise Refused(f"{len(tokens)} of these tokens were here, {count} are asked for")
    return b"".join(map(token_payload, tokens[:count]))
