"""`run_phases` against hand-written loops and aiometer, on operations that do nothing.

The work phase has one checkpoint, like any function that waits for something; the rest
of the time is the cost of the runner. All contestants take their operations from a list,
and only ours has other phases than work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import methodcaller

import trio

from trio_turnstile import Channels, Scalable, run_phases

from ._by_hand import bare_pool, nowait_then_start, semaphore_then_start
from ._harness import Contestant, Goal, Ratio, race

OPERATIONS = 10_000
AT_ONCE = 10


class WorkOnly(Scalable):
    async def work(self, channels: Channels | None) -> None:
        await trio.lowlevel.checkpoint()


class FourPhases(WorkOnly):
    async def prepare(self, channels: Channels) -> None:
        pass

    async def monitor(self, channels: Channels) -> None:
        pass

    async def cleanup(self, channels: Channels) -> None:
        pass


async def ours(operations: Sequence[WorkOnly]) -> None:
    report = await run_phases(operations, limiter=AT_ONCE)
    assert report.completed == OPERATIONS


async def aiometers(operations: Sequence[WorkOnly]) -> None:
    import aiometer

    await aiometer.run_on_each(CALL_WORK, operations, max_at_once=AT_ONCE)


CALL_WORK: Callable[[WorkOnly], Awaitable[None]] = methodcaller("work", None)
_FOUR = [FourPhases() for _ in range(OPERATIONS)]
_WORK = [WorkOnly() for _ in range(OPERATIONS)]

CONTESTANTS = {
    "four phases": Contestant(partial(ours, _FOUR)),
    "work only": Contestant(partial(ours, _WORK)),
    "bare pool": Contestant(partial(bare_pool, CALL_WORK, _WORK, AT_ONCE)),
    "Semaphore, start_soon": Contestant(partial(semaphore_then_start, CALL_WORK, _WORK, AT_ONCE)),
    "acquire_nowait, start_soon": Contestant(partial(nowait_then_start, CALL_WORK, _WORK, AT_ONCE)),
    "aiometer.run_on_each": Contestant(partial(aiometers, _WORK), needs="aiometer"),
}

RATIOS = (
    Ratio("four phases", "bare pool", Goal(5)),
    Ratio("four phases", "Semaphore, start_soon", Goal(1, less=True)),
    Ratio("four phases", "acquire_nowait, start_soon"),
    Ratio("four phases", "aiometer.run_on_each"),
    Ratio("work only", "bare pool"),
    Ratio("work only", "Semaphore, start_soon"),
    Ratio("work only", "acquire_nowait, start_soon"),
    Ratio("work only", "aiometer.run_on_each"),
)

BENCHMARKS = (race("phases", f"run_phases on no-ops, {AT_ONCE} at a time", CONTESTANTS, RATIOS),)
