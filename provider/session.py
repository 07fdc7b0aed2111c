"""One session at one stage: rows in, rows out, hashes, checkpoints. Design section 3, steps 3 and 4."""

import asyncio
import time
from dataclasses import dataclass, field

import msgspec
import torch

from inference.classes import ExecutionClass, rows_from_bytes, rows_to_bytes
from inference.executor import SessionState, StageExecutor, StageOutput
from protocol.grammar import Grammar
from protocol.plants import Plant
from protocol.receipts import Checkpoint, Countersignature, SessionOffer
from protocol.rows import CHECKPOINT_EVERY, FRAME_ROWS, TOKEN_DTYPE, last_stage_payload, token_payload
from protocol.sampling import History, SamplingParameters, logprobs_of, sample
from protocol.typed import ZERO32, Domain, Signed
from protocol.wire import CHECKPOINT_FOLLOWS, NO_LOGPROBS, Frame, Kind, OpenRequest, RelinkRequest, RouteStop
from provider import Refused, RootMismatch
from provider.evidence import EvidenceMeta, RowHashes, SessionFiles
from provider.planting import spoil
from provider.shipping import Importing, Shipping

NO_TOKEN = -1


@dataclass(frozen=True)
class Computed:
    """``payloads`` of the rows out; on the last stage ``token``, and its TokenLogprobs as JSON where they were asked for."""

    payloads: list[bytes]
    token: int = NO_TOKEN
    logprobs: bytes = b""


@dataclass
class Signer:
    """The operator's key and the domain it signs in."""

    domain: Domain
    key: bytes
    provider: str

    def sign(self, struct: Checkpoint | Countersignature) -> Signed:
        return Signed.of(struct, struct.sign(self.domain, self.key))


@dataclass
class StageSession:
    """State of one job at this stage. Its stream handler takes one frame at a time; whoever closes it waits for the step under way.

    ``epoch_in`` and ``epoch_out`` fence the links to its neighbours: each is raised when the neighbour is replaced, and frames of another
    epoch do not count.
    """

    request: OpenRequest
    offer: SessionOffer
    sampling: SamplingParameters
    execution: ExecutionClass
    executor: StageExecutor
    signer: Signer
    files: SessionFiles
    cache: SessionState
    route: list[RouteStop]
    epoch_in: int
    epoch_out: int
    tokens: list[int]
    grammar: Grammar | None = None
    """What the answer has to fit, on the last stage; as far as its tokens go."""
    plant: Plant | None = None
    """A fault on purpose, which this job was chosen for."""
    shipping: Shipping | None = None
    """What goes to a standby."""
    importing: Importing | None = None
    """What came as a standby, in place of running the first rows."""
    out: "asyncio.Queue[Frame | None]" = field(default_factory=asyncio.Queue)
    segment: RowHashes = field(init=False)
    """Over the rows that the stage before signs for: all of them, or those since it took over."""
    upstream: dict[int, Signed] = field(default_factory=dict)
    """By a segment's first position: the newest checkpoint over it that was countersigned here."""
    bound: list[Signed] = field(default_factory=list)
    """Those of them that the newest own checkpoint came after."""
    updates: list[RelinkRequest] = field(default_factory=list)
    checkpoint: Signed | None = None
    countersignature: Signed | None = None
    countersigned: asyncio.Event = field(default_factory=asyncio.Event)
    previous: bytes = ZERO32
    since_checkpoint: int = 0
    closed: bool = False
    fault: str = ""
    refused: bool = False
    """Whether the fault is what the stage before sent."""
    link: "asyncio.Task[None] | None" = None
    stepping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from a row's receipt until its output is kept: a close in between would sign roots over unequal counts, which convicts."""
    touched: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.segment = self.files.rows_in

    @property
    def index(self) -> int:
        return next(i for i, stop in enumerate(self.route) if stop.provider == self.offer.provider)

    @property
    def before(self) -> RouteStop | None:
        return self.route[self.index - 1] if self.index else None

    @property
    def after(self) -> RouteStop | None:
        return None if self.is_last else self.route[self.index + 1]

    @property
    def is_first(self) -> bool:
        return self.offer.first_layer == 0

    @property
    def is_last(self) -> bool:
        return self.route[-1].provider == self.offer.provider

    @property
    def position(self) -> int:
        return self.files.rows_in.end

    def attach(self, frame: Frame) -> None:
        """Begin a stream from the stage before, or from its replacement. Raises Refused for one that was replaced."""
        self._require_epoch(frame)
        whole = frame.position == 0 and self.position == self.offer.cached_tokens
        log = self.files.rows_in
        self.segment = log if whole else RowHashes(log.salt, log.boundary, log.dtype, frame.position)

    def receive(self, frame: Frame) -> torch.Tensor | None:
        """Keep a frame's rows; the rows as a tensor, or None for rows that were there already. Raises Refused."""
        self.touched = time.monotonic()
        self._require_epoch(frame)
        if frame.position + frame.rows <= self.position:
            return None
        if frame.rows > FRAME_ROWS:
            raise Refused(f"a frame of {frame.rows} rows; {FRAME_ROWS} are taken at once, so that nobody waits long for others' prompts")
        expected = TOKEN_DTYPE if self.is_first else self.execution.wire_dtype
        if frame.dtype != expected or frame.position != self.position:
            raise Refused(f"expected position {self.position} as {expected}, got {frame.position} as {frame.dtype}")
        if self.position + frame.rows > self.offer.most_rows:
            raise Refused(f"{self.position + frame.rows} rows exceed the {self.offer.prompt_tokens} + {self.offer.max_tokens} of the offer")
        if self.is_first:
            rows = rows_from_bytes(frame.payload, frame.rows, torch.int64).reshape(frame.rows)
            if not 0 <= int(rows.min()) <= int(rows.max()) < self.executor.vocab_size:
                raise Refused(f"token ids {int(rows.min())} to {int(rows.max())} are not all of the model's {self.executor.vocab_size}")
            if self.executor.encoder is not None and int(rows[0]) != self.executor.encoder.begin:
                raise Refused(f"a frame has to begin with a text, that is with token {self.executor.encoder.begin}, not with {int(rows[0])}")
            payloads = [token_payload(int(token)) for token in rows]
        else:
            rows = rows_from_bytes(frame.payload, frame.rows, self.execution.dtype)
            width = len(frame.payload) // frame.rows
            payloads = [frame.payload[at : at + width] for at in range(0, len(frame.payload), width)]
        if not self.is_first and rows.shape[1] != self.executor.hidden_size:
            raise Refused(f"rows of width {rows.shape[1]} do not fit a model of width {self.executor.hidden_size}")
        if not self.is_first and not bool(torch.isfinite(rows).all()):
            raise Refused(f"rows from position {frame.position} on are not all finite numbers")
        for part in (self.shipping, self.importing):
            if part is not None:
                part.hashes.add(payloads)
        for payload in payloads:
            self.files.rows_in.append(payload)
            if self.segment is not self.files.rows_in:
                self.segment.append(payload)
        return rows

    def finish(self, out: StageOutput) -> Computed:
        """What goes out. Runs on the compute thread. Raises Refused for rows that are not finite."""
        if self.shipping is not None:
            self.shipping.cut(self.cache, out.rows)
        sent = out.rows if self.plant is None else spoil(out.rows, self.plant.salt, self.cache.position - len(out.rows))
        if not bool(torch.isfinite(sent).all()):
            # Nobody can say whether they are right: to sign them would be to answer for what the stage before may have chosen.
            raise Refused("the rows that came in lead to rows that are not finite; nothing is signed for them")
        payloads = rows_to_bytes(sent)
        if not self.is_last:
            return Computed(payloads)
        if out.logits is None:  # an encoder's rows, from which nothing is drawn
            return Computed([last_stage_payload(row, NO_TOKEN) for row in payloads])
        position, token, logprobs = self.cache.position - 1, NO_TOKEN, b""
        # While rows are rebuilt there is nothing to sample: their tokens are known.
        if position >= max(self.offer.first_position, self.offer.prompt_tokens - 1):
            logits = out.logits[-1].numpy()
            allowed = None if self.grammar is None else self.grammar.allowed()
            token = sample(logits, self.sampling, position, History(self.tokens, self.request.prompt[: self.offer.prompt_tokens], allowed))
            if self.grammar is not None:
                self.grammar.accept(token)
            if self.request.logprobs != NO_LOGPROBS:
                logprobs = msgspec.json.encode(logprobs_of(logits, token, self.request.logprobs))
        marks = [NO_TOKEN] * (len(payloads) - 1) + [token]
        return Computed([last_stage_payload(row, mark) for row, mark in zip(payloads, marks, strict=True)], token, logprobs)

    def rebuild(self, rows: torch.Tensor) -> None:
        """Keep rows out that a standby was given."""
        payloads = rows_to_bytes(rows)
        self.emit(Computed([last_stage_payload(row, NO_TOKEN) for row in payloads] if self.is_last else payloads))

    def emit(self, computed: Computed) -> None:
        """Keep the rows out, then queue them for the next stage, or the token for the gateway; a checkpoint where one is due."""
        payloads, token = computed.payloads, computed.token
        rebuilt = max(0, min(len(payloads), self.offer.first_position - self.files.computed))
        self.files.keep_rebuilt(payloads[:rebuilt])
        payloads = payloads[rebuilt:]
        if not payloads:
            return
        log = self.files.rows_out
        first = log.end
        due = self.checkpoint is None or self.since_checkpoint + len(payloads) >= CHECKPOINT_EVERY
        for payload in payloads:
            log.append(payload)
        self.since_checkpoint += len(payloads)
        encodes = self.executor.encoder is not None
        if self.is_last and token == NO_TOKEN and not encodes:
            return
        flags = CHECKPOINT_FOLLOWS if due else 0
        if self.is_last and not encodes:
            self.tokens.append(token)
            self._queue(Kind.TOKEN, token_payload(token) + computed.logprobs, flags=flags, position=log.end, rows=1)
        else:
            self._queue(Kind.ROWS, b"".join(payloads), self.execution.wire_dtype, flags, first, len(payloads))
        if due:
            self.make_checkpoint()

    def make_checkpoint(self) -> Signed:
        """Sign the roots over all rows so far and queue them behind the rows."""
        point = Checkpoint(
            self.offer.job_id,
            self.offer.provider,
            self.offer.epoch,
            self.offer.first_layer,
            self.offer.end_layer,
            self.offer.first_position,
            self.files.rows_out.count,
            self.files.rows_in.root(),
            self.files.rows_out.root(),
            self.previous,
            self.bound_to,
        )
        self.bound = list(self.upstream.values())
        self.previous = point.struct_hash()
        self.since_checkpoint = 0
        self.checkpoint, self.countersignature = self.signer.sign(point), None
        self.countersigned.clear()
        self._queue(Kind.CHECKPOINT, msgspec.json.encode(self.checkpoint))
        return self.checkpoint

    @property
    def bound_to(self) -> bytes:
        """Struct hash of the newest checkpoint by the stage before that was countersigned here; zero where there is none."""
        newest = self.upstream.get(self.segment.first)
        return ZERO32 if newest is None else Checkpoint.from_json(newest.message).struct_hash()

    def bind(self, last: Signed) -> None:
        """Take the last checkpoint of the stage before from the gateway, should the link not have brought it. One that speaks of other rows than came
        here binds nothing. Raises BadSignature, Refused or RootMismatch."""
        before = self.before
        if before is None:
            raise Refused("the first stage has no stage before it")
        if Checkpoint.from_json(last.message).end == self.position:
            self.check_upstream(last, before.operator)

    def check_upstream(self, signed: Signed, operator: str) -> Signed:
        """Compare the sender's roots with the rows received and countersign. Raises BadSignature, Refused or RootMismatch."""
        point = Checkpoint.from_json(signed.message)
        point.require_signer(self.signer.domain, signed.signature_bytes, operator)
        mine, span = self.segment.root(), (self.segment.first, self.segment.count)
        if point.job_id != self.offer.job_id or (point.first_position, point.count) != span or point.root_out != mine:
            raise RootMismatch(
                f"{operator} signed root {point.root_out.hex()[:16]} over {point.count} rows from {point.first_position} on; "
                f"the {span[1]} rows from {span[0]} on that it sent have {mine.hex()[:16]}"
            )
        self.upstream[self.segment.first] = signed
        return self.signer.sign(Countersignature(point.struct_hash(), mine))

    def accept_countersignature(self, signed: Signed, operator: str) -> bool:
        """Keep the next stage's word on our newest checkpoint, True then; one on an older checkpoint is dropped."""
        word = Countersignature.from_json(signed.message)
        word.require_signer(self.signer.domain, signed.signature_bytes, operator)
        if word.checkpoint != self.previous:
            return False
        self.countersignature = signed
        self.countersigned.set()
        return True

    def relink(self, request: RelinkRequest, epoch: int) -> bool:
        """Take over new neighbours; True where the next stage is another one. Nothing of the old ones counts from now on."""
        before, after = self.before, self.after
        self.route, self.fault, self.refused = request.route, "", False
        self.updates.append(request)
        if before != self.before:
            self.epoch_in = epoch
        if after == self.after:
            return False
        self.epoch_out = epoch
        self.out = asyncio.Queue()
        for first, rows, payload in self.files.replay(FRAME_ROWS):
            last = first + rows == self.files.computed
            flags = CHECKPOINT_FOLLOWS if last and self.files.rows_out.count else 0
            self._queue(Kind.ROWS, payload, self.execution.wire_dtype, flags, first, rows)
        if self.files.rows_out.count:
            self.make_checkpoint()
        return True

    def meta(self) -> EvidenceMeta:
        """What the newest checkpoint covers, for the disk."""
        assert self.checkpoint is not None
        count = Checkpoint.from_json(self.checkpoint.message).count
        rows_in = self.offer.first_position + count
        return EvidenceMeta(self.request, self.checkpoint, self.countersignature, rows_in, count, self.bound, self.updates)

    def _require_epoch(self, frame: Frame) -> None:
        if frame.epoch != self.epoch_in:
            raise Refused(f"frames of epoch {frame.epoch} do not count any more; the stage before was replaced in epoch {self.epoch_in}")

    def _queue(self, kind: Kind, payload: bytes, dtype: str = TOKEN_DTYPE, flags: int = 0, position: int = 0, rows: int = 0) -> None:
        hidden = self.executor.hidden_size if kind is Kind.ROWS else 0
        step = max(0, self.position - self.offer.prompt_tokens)
        self.out.put_nowait(Frame(kind, self.offer.job_id, payload, dtype, flags, self.epoch_out, step, position, rows, hidden))
