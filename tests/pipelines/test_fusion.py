"""Fused steps: those that run in the task of the step before them."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from testkit.pipelines import Gauge
from trio_turnstile import Consumer, Processor, Producer, Skip


async def test_steps_without_limits_run_in_the_task_of_the_step_before() -> None:
    """A step without a limiter runs in the task of the step before it."""
    tasks: list[list[trio.lowlevel.Task]] = []

    async def begin(number: int) -> list[trio.lowlevel.Task]:
        await trio.lowlevel.checkpoint()
        return [trio.lowlevel.current_task()]

    async def note(seen: list[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
        await trio.lowlevel.checkpoint()
        return [*seen, trio.lowlevel.current_task()]

    async def end(seen: list[trio.lowlevel.Task]) -> None:
        await trio.lowlevel.checkpoint()
        tasks.append([*seen, trio.lowlevel.current_task()])

    await (
        Producer([1])
        | Processor(begin, limiter=2)
        | Processor(note, timeout=9, on_error=[Skip()])
        | Processor(note, limiter=2)
        | Consumer(end)
    ).run()
    ((a, b, c, d),) = tasks
    assert a is b
    assert c is d
    assert b is not c


async def test_fused_steps_hold_no_token(autojump_clock: MockClock) -> None:
    """A fused step does not hold the token of the step before it."""
    first, second = Gauge(), Gauge(5)
    await (Producer(range(6)) | Processor(first, limiter=2) | Consumer(second)).run()
    assert (first.most, second.most) == (2, 6)
    assert trio.current_time() == 8
