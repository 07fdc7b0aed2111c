"""One session at one stage: rows in, rows out, hashes, checkpoints. Design section 3, steps 3 and 4."""

import asyncio
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import torch

from inference.classes import ExecutionClass, rows_from_bytes, rows_to_bytes
from inference.executor import SessionState, StageExecutor
from protocol.receipts import Checkpoint, Countersignature, SessionOffer
from protocol.rows import CHECKPOINT_EVERY, TOKEN_DTYPE, last_stage_payload, token_payload
from protocol.sampling import SamplingParameters, sample
from protocol.typed import ZERO32, Domain, Signed
from protocol.wire import CHECKPOINT_FOLLOWS, Frame, Kind, OpenRequest
from provider import Refused, RootMismatch
from provider.evidence import RowLog

NO_TOKEN = -1


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
    """State of one job at this stage. Its stream handler takes one frame at a time; whoever closes it waits for the step under way."""

    request: OpenRequest
    offer: SessionOffer
    sampling: SamplingParameters
    execution: ExecutionClass
    executor: StageExecutor
    signer: Signer
    folder: Path
    log_in: RowLog
    log_out: RowLog
    cache: SessionState
    tokens: list[int] = field(default_factory=list)
    out: "asyncio.Queue[Frame | None]" = field(default_factory=asyncio.Queue)
    checkpoint: Signed | None = None
    countersignature: Signed | None = None
    countersigned: asyncio.Event = field(default_factory=asyncio.Event)
    previous: bytes = ZERO32
    since_checkpoint: int = 0
    step: int = 0
    closed: bool = False
    link: "asyncio.Task[None] | None" = None
    stepping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from a row's receipt until its output is kept: a close in between would sign roots over unequal counts, which convicts."""
    touched: float = field(default_factory=time.monotonic)

    @property
    def is_first(self) -> bool:
        return self.offer.first_layer == 0

    @property
    def is_last(self) -> bool:
        return self.request.route[-1].provider == self.offer.provider

    @property
    def position(self) -> int:
        return self.log_in.tree.count

    def receive(self, frame: Frame) -> torch.Tensor | None:
        """Hash and keep a frame's rows; the rows as a tensor, or None for a step that was there already. Raises Refused."""
        self.touched = time.monotonic()
        if frame.step < self.step:
            return None
        expected = TOKEN_DTYPE if self.is_first else self.execution.wire_dtype
        if frame.dtype != expected or frame.position != self.position or frame.step != self.step:
            raise Refused(
                f"expected step {self.step} at position {self.position} as {expected}, got {frame.step} at {frame.position} as {frame.dtype}"
            )
        if self.position + frame.rows > self.offer.prompt_tokens + self.offer.max_tokens:
            raise Refused(f"{self.position + frame.rows} rows exceed the {self.offer.prompt_tokens} + {self.offer.max_tokens} of the offer")
        if self.is_first:
            rows = rows_from_bytes(frame.payload, frame.rows, torch.int64).reshape(frame.rows)
            payloads = [token_payload(int(token)) for token in rows]
        else:
            rows = rows_from_bytes(frame.payload, frame.rows, self.execution.dtype)
            payloads = rows_to_bytes(rows)
        if not self.is_first and rows.shape[1] != self.executor.hidden_size:
            raise Refused(f"rows of width {rows.shape[1]} do not fit a model of width {self.executor.hidden_size}")
        for offset, payload in enumerate(payloads):
            self.log_in.append(frame.position + offset, payload)
        self.step += 1
        return rows

    def compute(self, rows: torch.Tensor) -> tuple[list[bytes], int]:
        """Run the rows; (payloads of the rows out, the token sampled on the last stage). Runs on the compute thread."""
        first = self.cache.position
        out = self.executor.forward(self.cache, rows)
        payloads = rows_to_bytes(out.rows)
        if not self.is_last:
            return payloads, NO_TOKEN
        assert out.logits is not None
        position = first + len(payloads) - 1
        token = sample(out.logits[-1].numpy(), self.sampling, position, self.tokens)
        marks = [NO_TOKEN] * (len(payloads) - 1) + [token]
        return [last_stage_payload(row, mark) for row, mark in zip(payloads, marks, strict=True)], token

    def emit(self, payloads: list[bytes], token: int) -> None:
        """Hash and keep the rows out, then queue them for the next stage, or the token for the gateway; a checkpoint where one is due."""
        first = self.log_out.tree.count
        for offset, payload in enumerate(payloads):
            self.log_out.append(first + offset, payload)
        self.since_checkpoint += len(payloads)
        due = first == 0 or self.since_checkpoint >= CHECKPOINT_EVERY
        flags = CHECKPOINT_FOLLOWS if due else 0
        if self.is_last:
            self.tokens.append(token)
            position = first + len(payloads)
            self._queue(Kind.TOKEN, token_payload(token), flags=flags, position=position, rows=1)
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
            0,
            self.log_out.tree.count,
            self.log_in.tree.root(),
            self.log_out.tree.root(),
            self.previous,
        )
        self.previous = point.struct_hash()
        self.since_checkpoint = 0
        self.checkpoint, self.countersignature = self.signer.sign(point), None
        self.countersigned.clear()
        self._queue(Kind.CHECKPOINT, msgspec.json.encode(self.checkpoint))
        return self.checkpoint

    def check_upstream(self, signed: Signed, operator: str) -> Signed:
        """Compare the sender's roots with the rows received and countersign. Raises BadSignature or RootMismatch."""
        point = Checkpoint.from_json(signed.message)
        point.require_signer(self.signer.domain, signed.signature_bytes, operator)
        mine = self.log_in.tree.root()
        if point.job_id != self.offer.job_id or point.count != self.log_in.tree.count or point.root_out != mine:
            raise RootMismatch(
                f"{operator} signed root {point.root_out.hex()[:16]} over {point.count} rows; the {self.position} rows it sent have {mine.hex()[:16]}"
            )
        return self.signer.sign(Countersignature(point.struct_hash(), mine))

    def accept_countersignature(self, signed: Signed, operator: str) -> None:
        """Keep the next stage's word on our newest checkpoint; one on an older checkpoint is dropped."""
        word = Countersignature.from_json(signed.message)
        word.require_signer(self.signer.domain, signed.signature_bytes, operator)
        if word.checkpoint == self.previous:
            self.countersignature = signed
            self.countersigned.set()

    def flush(self) -> None:
        """Rows to disk, before anything that names them is acknowledged."""
        for log in (self.log_in, self.log_out):
            log.file.flush()
            os.fsync(log.file.fileno())
            log.file.close()

    def discard(self) -> None:
        """Close the row files of a session that ends without a receipt and remove what it kept."""
        for log in (self.log_in, self.log_out):
            log.file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _queue(self, kind: Kind, payload: bytes, dtype: str = TOKEN_DTYPE, flags: int = 0, position: int = 0, rows: int = 0) -> None:
        hidden = self.executor.hidden_size if kind is Kind.ROWS else 0
        step = self.step - 1
        self.out.put_nowait(Frame(kind, self.offer.job_id, payload, dtype, flags, self.offer.epoch, step, position, rows, hidden))
