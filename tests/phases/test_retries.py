"""Retries and timeouts of operations."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock

from testkit.phases import Logged, Works, account
from trio_turnstile import Channels, PhaseTimeouts, Retry, Scalable, Skip, run_phases


class Flaky(Scalable):
    """An operation that fails twice, then completes."""

    def __init__(self) -> None:
        self.attempts: list[str] = []

    async def prepare(self, channels: Channels) -> None:
        self.attempts.append("prepare")

    async def work(self, channels: Channels) -> None:
        self.attempts.append("work")
        if len(self.attempts) < 6:
            raise OSError("not yet")

    async def cleanup(self, channels: Channels) -> None:
        self.attempts.append("cleanup")


async def test_retry_starts_again_at_prepare_and_cleans_up_once() -> None:
    """A retry starts again at `prepare`; clean-up runs once, after the last attempt."""
    operation = Flaky()
    report = await run_phases([operation], limiter=1, on_error=[Retry(2, backoff=lambda n: 0)])
    assert account(report) == (1, 1, 0, 0)
    assert report.retried == 2
    assert operation.attempts == ["prepare", "work"] * 3 + ["cleanup"]
    assert report.errors == ()


async def test_backoff_holds_no_token(autojump_clock: MockClock) -> None:
    """40 operations that fail twice, with 1 s of back-off and 5 tokens, take 2 s, not 16."""
    report = await run_phases(
        (Flaky() for _ in range(40)), limiter=5, on_error=[Retry(2, backoff=lambda n: 1)]
    )
    assert account(report) == (40, 40, 0, 0)
    assert trio.current_time() == 2


async def test_exception_groups_are_matched_by_their_leaves() -> None:
    """``on=`` matches an exception group by its leaves."""
    operations = [
        Works(0, ExceptionGroup("two", [OSError(), OSError()])),
        Works(0, ExceptionGroup("mixed", [OSError(), ValueError()])),
    ]
    report = await run_phases(
        operations, limiter=1, on_error=[Retry(1, on=OSError, backoff=lambda n: 0), Skip()]
    )
    assert account(report) == (2, 0, 2, 0)
    assert report.retried == 1


async def test_cancelled_while_backing_off_cleans_up(autojump_clock: MockClock) -> None:
    """An operation cancelled during its back-off is cleaned up and counted."""
    operation = Works(0, OSError())
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            policies = [Retry(1, backoff=lambda n: 9)]
            manager = await nursery.start(
                partial(run_phases, [operation], limiter=1, on_error=policies)
            )
    assert account(manager) == (1, 0, 0, 1)
    assert operation.cleaned == 1


async def test_timeouts_are_errors_like_others(autojump_clock: MockClock) -> None:
    """A phase that exceeds its timeout fails with `trio.TooSlowError`."""
    log: list[tuple[int, str, float]] = []
    timeouts = PhaseTimeouts(prepare=2, work=0.5, monitor=2)
    report = await run_phases([Logged(1, log)], limiter=1, timeouts=timeouts)
    assert account(report) == (1, 0, 1, 0)
    assert report.errors[0].phase == "work"
    assert isinstance(report.errors[0].__cause__, trio.TooSlowError)
    assert [phase for _, phase, _ in log] == ["prepare", "work", "cleanup"]
