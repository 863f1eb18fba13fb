"""What all live runs have in common: runs of phases and of pipelines, and their results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.operations import Operation, Work
from trio_turnstile import (
    Abort,
    Aborted,
    Consumer,
    Processor,
    Producer,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


@asynccontextmanager
async def phases(work: Work) -> AsyncIterator[Any]:
    operations = (Operation(number, work) for number in range(9))
    options = {"limiter": 1, "on_error": [Abort()]}
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(run_phases, operations, **options))


@asynccontextmanager
async def pipeline(work: Work) -> AsyncIterator[Any]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start((Producer(range(9)) | Consumer(work, limiter=1)).run)


@asynccontextmanager
async def results(work: Work) -> AsyncIterator[Any]:
    async def take() -> None:
        async for _ in opened:
            pass

    opening = (Producer(range(9)) | Processor(work, limiter=1)).open()
    async with opening as opened, trio.open_nursery() as nursery:
        nursery.start_soon(take)
        yield opened


Open: TypeAlias = Callable[[Work], AbstractAsyncContextManager[Any]]

every_run = pytest.mark.parametrize("open_run", [phases, pipeline, results])


async def second(number: int) -> int:
    await trio.sleep(1)
    return number


@every_run
async def test_a_run_that_is_drained_finishes_what_it_has_begun(
    open_run: Open, autojump_clock: MockClock
) -> None:
    """A run that is being drained receives nothing more, and says that it is stopping."""
    async with open_run(second) as run:
        await trio.sleep(1.5)
        with trio.fail_after(0.1):
            run.drain()
            await run.wait_stopping()
        assert run.stopped_by is None
    assert_conserved(run.report())
    assert trio.current_time() <= 3


@every_run
async def test_a_run_that_is_cancelled_ends_at_once(
    open_run: Open, autojump_clock: MockClock
) -> None:
    """A cancelled run ends at once, and accounts for the items in hand."""
    async with open_run(second) as run:
        await trio.sleep(1.5)
        run.cancel()
        await run.wait_stopping()
    report = run.report()
    assert_conserved(report)
    assert report.ended
    assert trio.current_time() == 1.5
    cancelled = report.cancelled if hasattr(report, "cancelled") else report.steps[0].cancelled
    assert cancelled >= 1


@every_run
async def test_a_run_tells_which_error_stops_it(open_run: Open, autojump_clock: MockClock) -> None:
    """The error that stops a run is known at once, not only when the run has ended."""

    async def fails(number: int) -> int:
        await trio.sleep(1)
        raise ValueError(number)

    told: list[Any] = []
    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery, open_run(fails) as run:
            assert run.stopped_by is None
            await run.wait_stopping()
            told.append(run.stopped_by)
            await trio.lowlevel.checkpoint()
            del nursery
    assert isinstance(told[0].__cause__, ValueError)
    assert caught.value.subgroup(Aborted) is not None
    assert_conserved(run.report())


@every_run
async def test_waiting_for_a_stop_ends_with_the_run(
    open_run: Open, autojump_clock: MockClock
) -> None:
    """Nobody waits for ever on a run that completes normally."""
    async with trio.open_nursery() as nursery, open_run(second) as run:
        nursery.start_soon(run.wait_stopping)
        await wait_all_tasks_blocked()
        assert not run.report().ended
    assert run.report().ended
    assert run.stopped_by is None
