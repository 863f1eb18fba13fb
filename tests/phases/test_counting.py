"""What phases report on their channels, and what the manager shows."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock

from testkit.phases import Works, account
from trio_turnstile import Channels, ConcurrentError, Limiter, Retry, Scalable, Skip, run_phases
from trio_turnstile.testing import assert_conserved


async def test_phases_may_report_errors_that_fail_nothing() -> None:
    """An error sent on the channel is in the report, and the operation still completes."""

    class Notes(Scalable):
        async def work(self, channels: Channels) -> None:
            await channels.errors.send(ConcurrentError("slow disk", identifiers=["s7"]))

    report = await run_phases([Notes()], limiter=1)
    assert account(report) == (1, 1, 0, 0)
    assert [str(error) for error in report.errors] == ["slow disk"]


async def test_counting_by_phases() -> None:
    """With ``counting="phases"``, the counts are the sums of what the phases send."""

    class Counts(Scalable):
        async def work(self, channels: Channels) -> None:
            await channels.working.send(1)
            await trio.lowlevel.checkpoint()
            await channels.completed.send(5)
            await channels.failed.send(2)
            await channels.working.send(-1)

    report = await run_phases([Counts(), Counts()], limiter=1, counting="phases")
    assert (report.received, report.completed, report.failed, report.working) == (2, 10, 4, 0)
    report = await run_phases([Counts(), Counts()], limiter=1)
    assert account(report) == (2, 2, 0, 0)


async def test_reports_of_phases_arrive_while_the_run_goes_on(autojump_clock: MockClock) -> None:
    """The manager shows at once what a phase sends."""

    class Counts(Scalable):
        async def work(self, channels: Channels) -> None:
            await channels.working.send(1)
            await channels.errors.send(ConcurrentError("note"))
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, [Counts()], limiter=1, counting="phases"))
        await trio.sleep(1)
        assert manager.working == 1
        assert len(manager.errors) == 1


async def test_manager_shows_the_run_live(autojump_clock: MockClock) -> None:
    """The manager shows counts, limiter and report during the run."""
    limiter = Limiter("ops", 2)
    operations = [Works(1), Works(2, OSError()), Works(9), Works(9)]
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(
                run_phases,
                operations,
                limiter=limiter,
                on_error=[Retry(1, backoff=lambda n: 3), Skip()],
            )
        )
        await trio.sleep(2.5)
        assert manager.limiter is limiter
        assert (manager.received, manager.working, manager.completed) == (4, 3, 1)
        assert manager.retried == 1
        assert manager.report().working == 3
        assert_conserved(manager)
