"""What receipts cost an agent beside running its stage: rows hashed and kept, checkpoints signed."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from eth_account import Account

from inference.classes import rows_to_bytes
from inference.executor import StageExecutor
from protocol.receipts import Checkpoint, Countersignature
from protocol.rows import CHECKPOINT_EVERY, TOKEN_DTYPE, last_stage_payload, token_payload
from protocol.typed import ZERO32, receipts_domain
from provider.evidence import EvidenceStore, RowLog
from provider.session import Signer


def share_of_receipts(stages: Sequence[StageExecutor], prompt: torch.Tensor, tokens: int) -> float:
    """Seconds that one session's agents spend so, against those of its passes. The rows' bytes are at hand, since they go on the wire anyway; that
    files reach the disk is waited for beside the next pass, and not counted."""
    sessions, passing, keeping = [stage.open_session(len(prompt) + tokens) for stage in stages], 0.0, 0.0
    with tempfile.TemporaryDirectory() as root, ExitStack() as files:
        kept = [_Kept.open(EvidenceStore(Path(root), 1 << 30), stage, files) for stage in stages]
        rows = prompt
        for _ in range(tokens):
            payloads = [token_payload(int(token)) for token in rows]
            for stage, session, logs in zip(stages, sessions, kept, strict=True):
                start = time.perf_counter()
                (out,) = stage.step([(session, rows)])
                passing += time.perf_counter() - start
                rows_in, rows, payloads = payloads, out.rows, rows_to_bytes(out.rows)
                if out.logits is not None:
                    payloads, rows = [last_stage_payload(row, 0) for row in payloads], out.logits[-1].argmax()[None]
                start = time.perf_counter()
                logs.keep(rows_in, payloads)
                keeping += time.perf_counter() - start
    return keeping / passing


@dataclass
class _Kept:
    """One session's rows at a stage, in and out. Each so many rows it signs a checkpoint, and countersigns one."""

    rows_in: RowLog
    rows_out: RowLog
    signer: Signer
    signed: int = 0

    @classmethod
    def open(cls, store: EvidenceStore, stage: StageExecutor, files: ExitStack) -> "_Kept":
        layers, dtype = stage.stage.layers, str(stage.dtype).removeprefix("torch.")
        file_in, file_out, _ = (files.enter_context(file) for file in store.create(store.folder(bytes(32), 0, layers.first)))
        account = Account.create()
        signer = Signer(receipts_domain(1, account.address), account.key, account.address)
        rows_in = RowLog(bytes(32), layers.first, dtype if layers.first else TOKEN_DTYPE, file=file_in)
        return cls(rows_in, RowLog(bytes(32), layers.end, dtype, file=file_out), signer)

    def keep(self, rows_in: list[bytes], rows_out: list[bytes]) -> None:
        for log, rows in ((self.rows_in, rows_in), (self.rows_out, rows_out)):
            for payload in rows:
                log.append(payload)
        count = self.rows_out.count
        if self.signed and count - self.signed < CHECKPOINT_EVERY:
            return
        self.signed = count
        roots = self.rows_in.root(), self.rows_out.root()
        point = Checkpoint(bytes(32), self.signer.provider, 0, self.rows_in.boundary, self.rows_out.boundary, 0, count, *roots, ZERO32)
        signed = self.signer.sign(point)
        Checkpoint.from_json(signed.message).require_signer(self.signer.domain, signed.signature_bytes, self.signer.provider)
        self.signer.sign(Countersignature(point.struct_hash(), point.root_in))
        for log in (self.rows_in, self.rows_out):
            log.file.flush()
