"""Steps of many sessions in few passes: nobody waits for a pass of its own, nobody's error is another's."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
import torch

from inference.executor import SessionState, StageOutput
from protocol.rows import FRAME_ROWS
from provider.scheduler import Scheduler

Work = Sequence[tuple[SessionState, torch.Tensor]]


class Stage:
    """Stands for a stage: notes the passes and waits in the first, so that the rest queues behind it. Its arithmetic is tested elsewhere."""

    def __init__(self) -> None:
        self.passes: list[list[int]] = []
        self.go = threading.Event()
        self.fails = False

    def step(self, work: Work) -> list[StageOutput]:
        self.passes.append([len(rows) for _, rows in work])
        self.go.wait(10)
        if self.fails:
            raise RuntimeError("out of memory")
        return [StageOutput(rows * 2, None) for _, rows in work]


async def queued(scheduler: Scheduler, counts: Sequence[int]) -> list["asyncio.Task[int]"]:
    """A step of one row that is under way, then more that wait behind it."""
    tasks: list[asyncio.Task[int]] = []
    for i, rows in enumerate([1, *counts]):
        step = scheduler.run(SessionState(None), torch.full((rows,), i), lambda out: int(out.rows.sum()))  # type: ignore[arg-type]
        tasks.append(asyncio.create_task(step))
        await asyncio.sleep(0.01)
    return tasks


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def scheduler(stage: Stage) -> Scheduler:
    return Scheduler(stage, lambda: 1)  # type: ignore[arg-type]


async def test_run__steps_that_wait__share_a_pass_and_each_gets_its_own(scheduler: Scheduler, stage: Stage) -> None:
    tasks = await queued(scheduler, [1, 3, 1])
    stage.go.set()
    assert await asyncio.gather(*tasks) == [0, 2, 12, 6]
    assert stage.passes == [[1], [1, 1, 3]]


async def test_run__prompts_beyond_a_pass__wait_and_single_rows_go_first(scheduler: Scheduler, stage: Stage) -> None:
    tasks = await queued(scheduler, [FRAME_ROWS, FRAME_ROWS, FRAME_ROWS, 1])
    stage.go.set()
    await asyncio.gather(*tasks)
    assert stage.passes == [[1], [1, FRAME_ROWS], [FRAME_ROWS], [FRAME_ROWS]]


async def test_run__short_prompts__share_a_pass_past_one_that_does_not_fit(scheduler: Scheduler, stage: Stage) -> None:
    tasks = await queued(scheduler, [100, FRAME_ROWS, 100, 1])
    stage.go.set()
    await asyncio.gather(*tasks)
    assert stage.passes == [[1], [1, 100, 100], [FRAME_ROWS]]


async def test_run__a_result_that_cannot_be_used__is_one_sessions_error(scheduler: Scheduler, stage: Stage) -> None:
    def refuse(_: StageOutput) -> int:
        raise ValueError("not finite")

    tasks = await queued(scheduler, [1])
    bad = asyncio.create_task(scheduler.run(SessionState(None), torch.ones(1), refuse))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    stage.go.set()
    assert await asyncio.gather(*tasks) == [0, 2]
    assert stage.passes == [[1], [1, 1]]
    with pytest.raises(ValueError, match="not finite"):
        await bad


async def test_run__a_pass_that_fails__fails_those_in_it_and_the_next_goes_on(scheduler: Scheduler, stage: Stage) -> None:
    tasks = await queued(scheduler, [1, 1])
    stage.fails = True
    stage.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(result) for result in results] == ["out of memory"] * 3
    assert stage.passes == [[1], [1, 1]]
    stage.fails = False
    assert await scheduler.run(SessionState(None), torch.ones(2), lambda out: int(out.rows.sum())) == 4  # type: ignore[arg-type]


async def test_run__cancelled_while_it_waits__is_not_computed(scheduler: Scheduler, stage: Stage) -> None:
    tasks = await queued(scheduler, [5, 1])
    tasks[1].cancel()
    stage.go.set()
    await asyncio.gather(tasks[0], tasks[2])
    assert stage.passes == [[1], [1]]


async def test_run__others_that_come_one_after_another__are_waited_for__and_those_that_do_not_are_not(scheduler: Scheduler, stage: Stage) -> None:
    """A stage that ends a pass sends on one frame a session: the first of them must not begin a pass by itself."""
    scheduler.open_sessions = lambda: 5
    stage.go.set()
    tasks: list[asyncio.Task[int]] = []
    for _ in range(4):
        step = scheduler.run(SessionState(None), torch.ones(1), lambda out: int(out.rows.sum()))  # type: ignore[arg-type]
        tasks.append(asyncio.create_task(step))
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == [2] * 4
    assert stage.passes == [[1] * 4]


async def test_run__bulk_work__lets_others_go_first_but_not_for_ever(scheduler: Scheduler, stage: Stage) -> None:
    def bulk(rows: int) -> "asyncio.Task[int]":
        step = scheduler.run(SessionState(None), torch.ones(rows), lambda out: int(out.rows.sum()), bulk=True)  # type: ignore[arg-type]
        return asyncio.create_task(step)

    tasks = await queued(scheduler, [])
    tasks.append(bulk(2))
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(scheduler.run(SessionState(None), torch.ones(3), lambda out: int(out.rows.sum())))]  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    stage.go.set()
    await asyncio.gather(*tasks)
    assert stage.passes == [[1], [3], [2]]
    stage.go.clear()
    tasks = [*await queued(scheduler, [3]), bulk(4)]
    await asyncio.sleep(0.01)
    next(step for step in scheduler.waiting if step.bulk).since -= 60
    stage.go.set()
    await asyncio.gather(*tasks)
    assert stage.passes[3:] == [[1], [3, 4]]
