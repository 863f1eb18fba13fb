"""Clean-up: when it runs, how long it may take, and what its errors do."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from testkit.phases import Sleeps, Works, account
from trio_turnstile import (
    Abort,
    Aborted,
    Channels,
    ConcurrentError,
    Retry,
    Skip,
    Verdict,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


class HangsInCleanup(Works):
    async def cleanup(self, channels: Channels) -> None:
        self.cleaned += 1
        await trio.sleep_forever()


async def test_cleanup_that_overruns_its_grace_is_cut_off(autojump_clock: MockClock) -> None:
    """A clean-up is cancelled after its grace, and its operation counts as failed."""
    operations = [HangsInCleanup(), Works(), Works(), Works()]
    report = await run_phases(operations, limiter=1, cleanup_grace=2.5)
    assert account(report) == (4, 3, 1, 0)
    (error,) = report.errors
    assert error.phase == "cleanup"
    assert isinstance(error.__cause__, trio.TooSlowError)
    assert "more than its 2.5 seconds" in str(error)
    assert trio.current_time() == 4


async def test_cleanup_grace_holds_under_cancellation(autojump_clock: MockClock) -> None:
    """When a run is cancelled, a clean-up that hangs delays the end by its grace at most."""
    operations = [HangsInCleanup(9), HangsInCleanup(9), Works(9)]
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(
                partial(run_phases, operations, limiter=3, cleanup_grace=5)
            )
    assert account(manager) == (3, 0, 0, 3)
    assert trio.current_time() == 6
    assert [operation.cleaned for operation in operations] == [1, 1, 1]
    assert len(manager.errors) == 2


def test_cleanup_that_overruns_its_grace_does_not_hide_an_interrupt() -> None:
    """Ctrl-C in a phase comes out of the run, even if the clean-up after it is cut off."""

    class Interrupted(HangsInCleanup):
        async def work(self, channels: Channels) -> None:
            raise KeyboardInterrupt

    operation = Interrupted()

    async def main() -> None:
        await run_phases([operation, Works(9)], limiter=1, cleanup_grace=1)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert operation.cleaned == 1


async def test_cleanup_ending_with_its_grace_harms_no_other_operation(
    autojump_clock: MockClock,
) -> None:
    """A clean-up that ends at the same moment as its grace cancels no other operation."""

    class Slow(Works):
        async def cleanup(self, channels: Channels) -> None:
            await trio.sleep(2)

    report = await run_phases([Slow() for _ in range(20)], limiter=1, cleanup_grace=2)
    assert report.cancelled == 0
    assert_conserved(report)


async def test_cleanup_that_cannot_be_cut_off_costs_its_worker_only(
    autojump_clock: MockClock,
) -> None:
    """A shielded clean-up that is late fails its own operation only."""

    class Stubborn(Sleeps):
        async def cleanup(self, channels: Channels) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(5)

    report = await run_phases([Stubborn(), Sleeps(), Sleeps()], limiter=1, cleanup_grace=1)
    assert account(report) == (3, 2, 1, 0)
    assert report.errors[0].phase == "cleanup"


async def test_failing_cleanup_fails_the_operation() -> None:
    """An error in clean-up is recorded, is not retried, and can abort the run."""

    class FailsInCleanup(Works):
        async def cleanup(self, channels: Channels) -> None:
            self.cleaned += 1
            raise OSError("busy")

    operation = FailsInCleanup(0)
    report = await run_phases([operation], limiter=1, on_error=[Retry(5), Skip()])
    assert account(report) == (1, 0, 1, 0)
    assert operation.cleaned == 1
    assert report.errors[0].phase == "cleanup"
    with pytest.raises(Aborted):
        await run_phases([FailsInCleanup(0)], limiter=1, on_error=[Abort()])


async def test_retry_verdict_on_cleanup_is_taken_as_failure() -> None:
    """If a policy asks for a retry of a clean-up, the operation fails instead."""

    class Stubborn:
        def decide(self, error: ConcurrentError, /) -> Verdict | None:
            from trio_turnstile import RetryIn

            return RetryIn(0)

    class FailsInCleanup(Works):
        async def cleanup(self, channels: Channels) -> None:
            self.cleaned += 1
            raise OSError("busy")

    operation = FailsInCleanup(0)
    report = await run_phases([operation], limiter=1, on_error=[Stubborn()])
    assert account(report) == (1, 0, 1, 0)
    assert len(report.errors) == 1
    assert operation.cleaned == 1


async def test_both_the_work_and_the_cleanup_may_fail() -> None:
    """If work and clean-up both fail, both errors are kept and the operation counts once."""

    class FailsTwice(Works):
        async def cleanup(self, channels: Channels) -> None:
            raise KeyError("second")

    report = await run_phases([FailsTwice(0, OSError("first"))], limiter=1)
    assert account(report) == (1, 0, 1, 0)
    assert [error.phase for error in report.errors] == ["work", "cleanup"]
