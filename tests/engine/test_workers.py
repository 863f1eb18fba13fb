"""Workers live on from item to item: they start when needed, stand by, and all leave."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Channels, Limiter, Manager, Scalable, run_phases
from trio_turnstile.testing import assert_conserved


class Tasks(trio.abc.Instrument):
    """A counter of the tasks that are started."""

    def __init__(self) -> None:
        self.started = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Count one task."""
        self.started += 1


class CleansUp(Scalable):
    """An operation that gives its token back for a clean-up as long as its work."""

    async def work(self, channels: Channels) -> None:
        await trio.sleep(1)

    async def cleanup(self, channels: Channels) -> None:
        await trio.sleep(1)


def test_a_worker_is_taken_on_again_before_a_new_one_is_started() -> None:
    """Operations that give their tokens back early do not cost a task each."""
    tasks = Tasks()

    async def run() -> None:
        report = await run_phases((CleansUp() for _ in range(200)), limiter=4)
        assert report.completed == 200

    trio.run(run, clock=MockClock(autojump_threshold=0), instruments=[tasks])
    assert tasks.started < 40


@pytest.mark.parametrize("ending", ["source", "drain", "cancel"])
async def test_workers_that_stand_by_leave_with_the_run(
    ending: str, autojump_clock: MockClock
) -> None:
    """A lower limit leaves workers without an item, and no ending of the run waits for them."""
    limiter = Limiter("work", 10)
    count = 30 if ending == "source" else 1000
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(
            partial(run_phases, (CleansUp() for _ in range(count)), limiter=limiter)
        )
        await trio.sleep(1.5)
        limiter.total_tokens = 1
        await trio.sleep(3)
        await wait_all_tasks_blocked()
        if ending == "drain":
            manager.drain()
        elif ending == "cancel":
            nursery.cancel_scope.cancel()
    assert_conserved(manager.report())
    assert limiter.borrowed_tokens == 0
    assert ending != "source" or manager.report().completed == 30


async def test_workers_that_stand_by_are_taken_on_when_the_limit_is_raised(
    autojump_clock: MockClock,
) -> None:
    """All tokens are in use again as soon as the limit is raised."""
    limiter = Limiter("work", 10)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_phases, (CleansUp() for _ in range(1000)), limiter=limiter))
        await trio.sleep(1.5)
        limiter.total_tokens = 1
        await trio.sleep(3)
        assert limiter.borrowed_tokens == 1
        limiter.total_tokens = 10
        await wait_all_tasks_blocked()
        assert limiter.borrowed_tokens == 10
        nursery.cancel_scope.cancel()
