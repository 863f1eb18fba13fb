"""`run_phases` against hand-written loops and aiometer, on operations that do nothing.

The work phase has one checkpoint, as whatever waits for something has; the rest of
the time is the price of the runner. All take their operations from a list, and
only ours knows more phases than work.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import trio

from trio_turnstile import Channels, Scalable, run_phases

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


async def bare_pool(operations: Sequence[WorkOnly]) -> None:
    """A few tasks share an iterator: no errors, no counts, no other number of tasks."""
    shared = iter(operations)

    async def worker() -> None:
        for operation in shared:
            await operation.work(None)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(worker)


async def acquire_then_start(operations: Sequence[WorkOnly]) -> None:
    """A token, then a task, for each; by a semaphore, the fastest thing that has tokens."""
    tokens = trio.Semaphore(AT_ONCE)

    async def task(operation: WorkOnly) -> None:
        try:
            await operation.work(None)
        finally:
            tokens.release()

    async with trio.open_nursery() as nursery:
        for operation in operations:
            await tokens.acquire()
            nursery.start_soon(task, operation)


async def try_then_start(operations: Sequence[WorkOnly]) -> None:
    """The same, but while there are tokens it does not let others run."""
    tokens = trio.Semaphore(AT_ONCE)

    async def task(operation: WorkOnly) -> None:
        try:
            await operation.work(None)
        finally:
            tokens.release()

    async with trio.open_nursery() as nursery:
        for operation in operations:
            try:
                tokens.acquire_nowait()
            except trio.WouldBlock:
                await tokens.acquire()
            nursery.start_soon(task, operation)


async def aiometers(operations: Sequence[WorkOnly]) -> None:
    import aiometer

    async def work(operation: WorkOnly) -> None:
        await operation.work(None)

    await aiometer.run_on_each(work, operations, max_at_once=AT_ONCE)


_FOUR = [FourPhases() for _ in range(OPERATIONS)]
_WORK = [WorkOnly() for _ in range(OPERATIONS)]

CONTESTANTS = {
    "four phases": Contestant(partial(ours, _FOUR)),
    "work only": Contestant(partial(ours, _WORK)),
    "bare pool": Contestant(partial(bare_pool, _WORK)),
    "acquire, start_soon": Contestant(partial(acquire_then_start, _WORK)),
    "acquire_nowait, start_soon": Contestant(partial(try_then_start, _WORK)),
    "aiometer.run_on_each": Contestant(partial(aiometers, _WORK), needs="aiometer"),
}

RATIOS = (
    Ratio("four phases", "bare pool", Goal(5)),
    Ratio("four phases", "acquire, start_soon", Goal(1, less=True)),
    Ratio("four phases", "acquire_nowait, start_soon"),
    Ratio("four phases", "aiometer.run_on_each"),
    Ratio("work only", "bare pool"),
    Ratio("work only", "acquire, start_soon"),
    Ratio("work only", "acquire_nowait, start_soon"),
    Ratio("work only", "aiometer.run_on_each"),
)

BENCHMARKS = (race("phases", f"run_phases on no-ops, {AT_ONCE} at a time", CONTESTANTS, RATIOS),)
