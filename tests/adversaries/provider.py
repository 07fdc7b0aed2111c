"""A provider that cheats: ``python -m tests.adversaries.provider NAME``, with the settings of `provider-agent start`.

The agent itself has no switch for lying; each lie here is a change to its parts before they serve.
"""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
import msgspec
import numpy as np
import torch
from eth_hash.auto import keccak

from inference.classes import rows_from_bytes, rows_to_bytes
from inference.executor import SessionState, StageExecutor, StageOutput
from inference.loader import load_stage
from protocol import logs
from protocol.receipts import Checkpoint, StageReceipt
from protocol.sampling import History, SamplingParameters, sample
from protocol.settings import ProviderSettings
from protocol.typed import Signed
from protocol.wire import BatchAsk, BatchReply, EvidenceHead, Frame, OpenReply, OpenRequest
from provider import server as server_module
from provider import session as session_module
from provider.app import serve
from provider.evidence import RowHashes, SessionFiles
from provider.prefixes import Kept
from provider.server import StageServer
from provider.session import StageSession
from tests.adversaries.compute import COMPUTE

Lie = Callable[[StageServer], None]
LATE_SECONDS = 5


def _computing(name: str) -> Lie:
    def tamper(server: StageServer) -> None:
        COMPUTE[name](server.executor)
        server.prefixes.possible = server.executor.forks

    return tamper


def _outputs(server: StageServer, change: Callable[[SessionState, int, torch.Tensor, StageOutput], StageOutput]) -> None:
    """Change what is computed; ``change`` is given the session, the position of the first row in, the rows in, and what is true."""
    honest = server.executor.step

    def step(work: Sequence[tuple[SessionState, torch.Tensor]]) -> list[StageOutput]:
        firsts = [session.position for session, _ in work]
        return [change(session, first, rows, out) for (session, rows), first, out in zip(work, firsts, honest(work), strict=True)]

    server.executor.step = step  # type: ignore[method-assign]


def _rows(change: Callable[[torch.Tensor], torch.Tensor]) -> Lie:
    """A stage that commits to other rows than it computed, and sends those."""
    return lambda server: _outputs(server, lambda _session, _first, _rows, out: StageOutput(change(out.rows), out.logits))


def _sessions(change: Callable[[StageSession], None]) -> Lie:
    """A stage that tampers with each session as it opens."""

    def tamper(server: StageServer) -> None:
        honest = server.open

        async def open_session(request: OpenRequest) -> OpenReply:
            reply = await honest(request)
            change(next(session for session in server.sessions.values() if session.request is request))
            return reply

        server.open = open_session  # type: ignore[method-assign]

    return tamper


def _resample(**changes: float) -> Lie:
    """A last stage that samples by other parameters than the gateway pinned."""

    def change(session: StageSession) -> None:
        session.sampling = msgspec.structs.replace(session.sampling, **changes)

    return _sessions(change)


def _shift(rows: torch.Tensor) -> torch.Tensor:
    return rows.roll(1, dims=0) if len(rows) > 1 else rows.roll(1, dims=1)


def _some_channels(rows: torch.Tensor) -> torch.Tensor:
    changed = rows.clone()
    changed[:, ::50] *= 1.5
    return changed


def _refuse_evidence(server: StageServer) -> None:
    """Serve, anchor, and show nobody any rows."""

    async def serve_evidence(_: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "no")
        yield b""

    server.serve_evidence = serve_evidence  # type: ignore[method-assign]


def _evidence(change: Callable[[int, list[bytes]], list[bytes]]) -> Lie:
    """A stage whose evidence is changed on its way out; ``change`` is given the number of the request and the messages, head first."""

    def tamper(server: StageServer) -> None:
        honest, requests = server.serve_evidence, itertools.count()

        async def serve_evidence(raw: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            number, messages = next(requests), [message async for message in honest(raw, context)]
            for message in (changed := change(number, messages)):
                yield message
            if len(b"".join(changed)) < len(b"".join(messages)) and changed[0] == messages[0]:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broke off")

        server.serve_evidence = serve_evidence  # type: ignore[method-assign]

    return tamper


def _earlier_rows(answers_only: bool) -> Lie:
    """A stage that sends rows of an earlier job in place of this one's, or of its answer alone: work done once and sold again."""

    def tamper(server: StageServer) -> None:
        kept = torch.empty(0)

        def change(_: SessionState, first: int, rows: torch.Tensor, out: StageOutput) -> StageOutput:
            nonlocal kept
            if first == 0 and not len(kept):
                kept = out.rows.flip(0)  # of the first job there is nothing earlier but its own rows in another order
            if answers_only and first == 0:
                return out
            index = torch.arange(first, first + len(rows)) % len(kept)
            return StageOutput(kept[index].clone(), out.logits)

        _outputs(server, change)

    return tamper


def _few_tokens(server: StageServer) -> None:
    """Off by a fifth in four tokens of each answer, and honest elsewhere."""

    def change(session: SessionState, _: int, rows: torch.Tensor, out: StageOutput) -> StageOutput:
        wrong = len(rows) == 1 and session.position % 16 < 4
        return StageOutput(out.rows * 1.2 if wrong else out.rows, out.logits)

    _outputs(server, change)


def _other_model_text(server: StageServer) -> None:
    """A last stage whose tokens come from weights in int4, while the rows that it commits to are the real model's."""
    stage = server.executor.stage
    settings = ProviderSettings.load()
    cheap = StageExecutor(load_stage(settings.model_dir, stage.layers, server.executor.dtype))
    COMPUTE["int4-weights"](cheap)
    sessions: dict[int, SessionState] = {}

    def change(session: SessionState, first: int, rows: torch.Tensor, out: StageOutput) -> StageOutput:
        if first == 0:
            sessions[id(session)] = cheap.open_session()
        return StageOutput(out.rows, cheap.forward(sessions[id(session)], rows).logits)

    _outputs(server, change)


def _takes_second_best(server: StageServer) -> None:
    """Lossy speculation: a draft's token is taken where it is merely likely, here the second best after the noise."""

    def lossy(logits: Any, parameters: SamplingParameters, position: int, history: History) -> int:
        best = sample(logits, parameters, position, history)
        without = np.array(logits, copy=True)
        without[best] = -np.inf
        second = sample(without, parameters, position, history)
        return second if logits[best] - logits[second] < np.log(3) else best

    session_module.sample = lossy  # type: ignore[assignment]


def _shows_other_list(server: StageServer) -> None:
    """Anchor what one serves, and show everybody a list that is not it: nobody can be drawn to check any of it."""
    honest = server.batch

    async def batch(request: BatchAsk) -> BatchReply:
        reply = await honest(request)
        receipt = StageReceipt.from_json(reply.receipts[0].message)
        other = Signed.of(replace(receipt, amount=receipt.amount + 1), reply.receipts[0].signature_bytes)
        return BatchReply([other, *reply.receipts[1:]], reply.checkpoints)

    server.batch = batch  # type: ignore[method-assign]


def _late(server: StageServer) -> None:
    """Show what is asked for, but seconds later: a slow disk, and no lie."""
    honest = server.serve_evidence

    async def serve_evidence(raw: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        await asyncio.sleep(LATE_SECONDS)
        async for message in honest(raw, context):
            yield message

    server.serve_evidence = serve_evidence  # type: ignore[method-assign]


def _names_other_upstream(server: StageServer) -> None:
    """Of two neighbours that collude, the second: what it names as the word of the stage before is another one than the gateway was given."""

    def change(session: StageSession) -> None:
        bind = session.bind

        def bind_other(last: Signed) -> None:
            bind(last)
            other = replace(Checkpoint.from_json(last.message), root_out=keccak(b"rows that nobody sent"))
            session.upstream[session.segment.first] = session.signer.sign(other)

        session.bind = bind_other  # type: ignore[method-assign]

    # It knows that its receipts will not be taken, and counts on none of them.
    server.ledger.add_receipt = lambda *_: None  # type: ignore[method-assign]
    _sessions(change)(server)


def _two_receipts(server: StageServer) -> None:
    """Give the gateway a receipt, and anchor another one under its number."""
    add = server.ledger.add_receipt

    def add_receipt(receipt: StageReceipt, _: Signed, *rest: Any) -> None:
        other = replace(receipt, job_id=keccak(receipt.job_id))
        add(other, Signed.of(other, other.sign(server.signer.domain, server.signer.key)), *rest)

    server.ledger.add_receipt = add_receipt  # type: ignore[method-assign]


def _commits_to_others(session: StageSession) -> None:
    """Hash other rows than are sent on: the next stage has to notice before it goes on."""
    log = session.files.rows_out
    honest = log.append
    log.append = lambda payload: honest(bytes(len(payload)))  # type: ignore[method-assign]


def _other_input(session: StageSession) -> None:
    """Countersign what came in, and answer for other rows all the same: what it takes to serve one job with the work of another."""
    log, dtype = session.files.rows_in, session.execution.dtype
    keep, attach, receive = log.append, session.attach, session.receive

    def append(payload: bytes) -> None:
        keep(rows_to_bytes(rows_from_bytes(payload, 1, dtype) * 0.5)[0])

    def attach_apart(frame: Frame) -> None:
        attach(frame)
        session.segment = RowHashes(log.salt, log.boundary, log.dtype, frame.position)

    def receive_other(frame: Frame) -> torch.Tensor | None:
        rows = receive(frame)
        return None if rows is None else rows * 0.5

    log.append, session.attach, session.receive = append, attach_apart, receive_other  # type: ignore[method-assign]


def _other_prefix(server: StageServer) -> None:
    """Answer for other rows in than the neighbour sent earlier, where an earlier job's are used again."""
    honest = server_module.take_over

    def take_over(kept: Kept, files: SessionFiles, *rest: Any) -> None:
        first_rows = kept.files.first_rows

        def changed(count: int) -> tuple[list[bytes], list[bytes]]:
            rows_in, rows_out = first_rows(count)
            return [bytes(len(rows_in[0])), *rows_in[1:]], rows_out

        kept.files.first_rows = changed  # type: ignore[method-assign]
        honest(kept, files, *rest)

    server_module.take_over = take_over


def _truncated(_: int, messages: list[bytes]) -> list[bytes]:
    """Half of the rows, under a head that says so."""
    head = msgspec.json.decode(messages[0], type=EvidenceHead)
    rows = b"".join(messages[1:])[: head.row_count // 2 * head.row_bytes]
    return [msgspec.json.encode(msgspec.structs.replace(head, row_count=head.row_count // 2)), rows]


def _broken_off(number: int, messages: list[bytes]) -> list[bytes]:
    """Every second stream breaks off in the middle of its rows: a poor link, and no lie."""
    rows = b"".join(messages[1:])
    return messages if number % 2 else [messages[0], rows[: len(rows) // 2]]


LIES: dict[str, Lie] = {
    **{name: _computing(name) for name in COMPUTE},
    "constant-row": _rows(lambda rows: torch.full_like(rows, 0.5)),
    "shifted-rows": _rows(_shift),
    "few-channels": _rows(_some_channels),
    "wrong-seed": _resample(seed=7),
    "wrong-temperature": _resample(temperature=0.5),
    "wrong-top-p": _resample(top_p=0.3),
    "lossy-speculation": _takes_second_best,
    "other-model-text": _other_model_text,
    "other-job": _earlier_rows(answers_only=False),
    "cached-answer": _earlier_rows(answers_only=True),
    "few-tokens": _few_tokens,
    "commits-to-others": _sessions(_commits_to_others),
    "names-other-upstream": _names_other_upstream,
    "other-list": _shows_other_list,
    "two-receipts": _two_receipts,
    "other-input": _sessions(_other_input),
    "other-prefix": _other_prefix,
    "refuses-evidence": _refuse_evidence,
    "truncated-evidence": _evidence(_truncated),
    "oversized-evidence": _evidence(lambda _, messages: [*messages, bytes(1 << 22)]),
    "breaks-off-evidence": _evidence(_broken_off),
    "late-evidence": _late,
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name not in LIES:
        sys.exit(f"adversary {name!r} is not known; choose one of {', '.join(LIES)}")
    settings = ProviderSettings.load()
    logs.configure(settings.log_level)
    asyncio.run(serve(settings, LIES[name]))


if __name__ == "__main__":
    main()
