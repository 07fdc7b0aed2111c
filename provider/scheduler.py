"""Continuous batching: the steps of all sessions that wait run in one pass. Sessions join and leave it at every step."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from inference.executor import SessionState, StageExecutor, StageOutput
from protocol.rows import FRAME_ROWS

T = TypeVar("T")
PROMPT_ROWS = FRAME_ROWS
"""Rows of prompts in a pass, beside those of all sessions that decode: several short prompts, or one frame of a long one."""

BULK_SECONDS = 0.5
"""How long a step of bulk work lets others go before it."""
GAP_SECONDS, GATHER_SECONDS = 0.003, 0.02
"""How long a pass waits for the next step, and for all of them; where one session is open it waits for nobody."""


@dataclass(eq=False)
class Step:
    """Rows that a session appends. ``finish`` turns what comes out into the step's result, on the compute thread."""

    session: SessionState
    rows: torch.Tensor
    finish: Callable[[StageOutput], Any]
    done: "asyncio.Future[Any]"
    bulk: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass
class Scheduler:
    """Owns the compute thread. A session has one step in it at a time."""

    executor: StageExecutor
    open_sessions: Callable[[], int]
    """How many sessions may bring a step at all."""
    waiting: list[Step] = field(default_factory=list)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "compute"))
    _loop: "asyncio.Task[None] | None" = None

    async def run(self, session: SessionState, rows: torch.Tensor, finish: Callable[[StageOutput], T], bulk: bool = False) -> T:
        """Append rows to a session in the next pass that has room; ``bulk``: and while nobody else waits. Raises what the pass or ``finish``
        raises."""
        step = Step(session, rows, finish, asyncio.get_running_loop().create_future(), bulk)
        self.waiting.append(step)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._work())
        return await step.done  # type: ignore[no-any-return]

    async def alone(self, work: Callable[[], T]) -> T:
        """Do something else on the compute thread, between two passes."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)

    async def _work(self) -> None:
        while await self._gather() and (batch := self._next_batch()):
            for step, result in zip(batch, await asyncio.get_running_loop().run_in_executor(self.thread, self._pass, batch), strict=True):
                if step.done.cancelled():
                    continue
                if isinstance(result, Exception):
                    step.done.set_exception(result)
                else:
                    step.done.set_result(result)

    async def _gather(self) -> bool:
        """Wait while steps come in one after another, as they do when the stage before has ended a pass: each would else begin a pass of its own,
        and those behind it wait for that. Whether there is any step."""
        until = time.monotonic() + GATHER_SECONDS
        seen = 0
        while seen < len(self.waiting) < self.open_sessions() and time.monotonic() < until:
            seen = len(self.waiting)
            await asyncio.sleep(GAP_SECONDS)
        return bool(self.waiting)

    def _next_batch(self) -> list[Step]:
        """All single rows, since somebody waits for each; then frames of prompts in the order in which they came. The first of them always fits.
        Bulk work has its turn where nobody else waits, or it has waited long enough."""
        self.waiting = [step for step in self.waiting if not step.done.cancelled()]
        others, late = any(not step.bulk for step in self.waiting), time.monotonic() - BULK_SECONDS
        ready = [step for step in self.waiting if not step.bulk or not others or step.since < late]
        batch = [step for step in ready if len(step.rows) == 1]
        room = PROMPT_ROWS
        for step in ready:
            if 1 < len(step.rows) <= room:
                batch.append(step)
                room -= len(step.rows)
        self.waiting = [step for step in self.waiting if step not in batch]
        return batch

    def _pass(self, batch: list[Step]) -> list[Any]:
        """Each step's result, or what it raised; an error of the pass itself is everybody's."""
        try:
            outs = self.executor.step([(step.session, step.rows) for step in batch])
        except Exception as error:
            return [error] * len(batch)
        return [_caught(step.finish, out) for step, out in zip(batch, outs, strict=True)]


def _caught(finish: Callable[[StageOutput], Any], out: StageOutput) -> Any:
    try:
        return finish(out)
    except Exception as error:
        return error
