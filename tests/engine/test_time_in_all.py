"""Retries that are bounded by the total time, or by nothing."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import takes
from trio_turnstile import (
    Batch,
    BatchError,
    Channels,
    ConcurrentError,
    Consumer,
    ErrorPolicy,
    Processor,
    Producer,
    Retry,
    RetryIn,
    Scalable,
    Skip,
    Verdict,
    retry,
    run_phases,
)


def every(seconds: float, *, times: int | None = None, within: float | None = None) -> Retry:
    return Retry(times, backoff=lambda failures: seconds, within=within)


class Watch:
    """A policy that notes what it is told, and gives the verdict for the number of the attempt."""

    def __init__(self, times: int = 2) -> None:
        self.times = times
        self.seen: list[tuple[object, int, float | None]] = []

    def decide(self, error: ConcurrentError, /) -> Verdict | None:
        self.seen.append((error.item, error.attempt, error.elapsed))
        return RetryIn(10) if error.attempt <= self.times else None


class Refuses(Scalable):
    """An operation that takes a second and fails."""

    async def work(self, channels: Channels) -> None:
        await trio.sleep(1)
        raise OSError


async def refuse(item: Any) -> None:
    """Take a second and fail."""
    await trio.sleep(1)
    raise OSError


async def refuse_now(item: Any) -> None:
    raise OSError


def failed(attempt: int, elapsed: float | None) -> ConcurrentError:
    error = ConcurrentError("failed", attempt=attempt)
    error.elapsed = elapsed
    return error


# ---- the policy ----


@pytest.mark.parametrize(
    ("elapsed", "verdict"),
    [(None, RetryIn(5)), (0, RetryIn(5)), (55, RetryIn(5)), (55.1, None), (99, None)],
)
def test_no_retry_begins_later_than_within(elapsed: float | None, verdict: object) -> None:
    """The wait counts, because the retry has to begin in time."""
    assert every(5, within=60).decide(failed(7, elapsed)) == verdict


def test_a_long_retry_after_is_too_late() -> None:
    """An error that asks for more time than is left ends the attempts at once."""
    error = failed(1, 1.0)
    error.__cause__ = OSError()
    error.__cause__.retry_after = 60.0  # type: ignore[attr-defined]
    assert every(5, within=60).decide(error) is None
    assert every(5, within=61).decide(error) == RetryIn(60)


def test_both_bounds_hold() -> None:
    """The attempts end when the retries or the time are used up, whichever comes first."""
    policy = every(5, times=3, within=60)
    assert policy.decide(failed(3, 50)) == RetryIn(5)
    assert policy.decide(failed(4, 50)) is None
    assert policy.decide(failed(3, 56)) is None


def test_no_bound_is_for_ever() -> None:
    """The millionth failure waits no longer than the back-off says."""
    assert every(5).decide(failed(1_000_000, 1e9)) == RetryIn(5)
    verdict = Retry(None).decide(failed(1_000_000, None))
    assert verdict is not None
    assert 0 <= verdict.seconds <= 30


@pytest.mark.parametrize(
    ("within", "error"), [(0, ValueError), (-1, ValueError), ("1m", TypeError)]
)
def test_within_is_a_number_of_seconds(within: Any, error: type[Exception]) -> None:
    """``within`` must be a number of seconds, and leave some time."""
    with pytest.raises(error, match="within"):
        Retry(None, within=within)


# ---- the time that policies are told ----


@pytest.mark.parametrize("before", [0, 1])
async def test_a_step_tells_the_time_since_the_first_attempt(
    autojump_clock: MockClock, before: int
) -> None:
    """Earlier waits of the item, in the source or in another step, do not count."""
    watch = Watch()
    steps = Producer(["a"]) | Processor(takes(100), limiter=1, on_error=[every(1, within=5)])
    if not before:
        steps = steps | Processor(takes(7), limiter=1)
    await (steps | Consumer(refuse, on_error=[watch, Skip()])).run()
    assert watch.seen == [("a", 1, 1.0), ("a", 2, 12.0), ("a", 3, 23.0)]


async def test_each_item_has_a_time_of_its_own(autojump_clock: MockClock) -> None:
    """A worker that goes on to the next item starts again at zero."""
    watch = Watch(times=1)
    await (Producer("ab") | Consumer(refuse, limiter=1, window=1, on_error=[watch, Skip()])).run()
    assert watch.seen == [("a", 1, 1.0), ("a", 2, 12.0), ("b", 1, 1.0), ("b", 2, 12.0)]


async def test_a_timeout_counts(autojump_clock: MockClock) -> None:
    """An attempt that was cut off took its whole timeout."""
    watch = Watch(times=0)
    await (Producer("a") | Consumer(takes(9), timeout=5, on_error=[watch, Skip()])).run()
    assert watch.seen == [("a", 1, 5.0)]


async def test_phases_tell_the_time_of_an_operation(autojump_clock: MockClock) -> None:
    """All attempts at an operation count, from the start of its first prepare."""
    watch, operation = Watch(), Refuses()
    await run_phases([operation], limiter=1, on_error=[watch, Skip()])
    assert watch.seen == [(operation, 1, 1.0), (operation, 2, 12.0), (operation, 3, 23.0)]


async def test_batches_tell_the_time_of_their_first_attempt(autojump_clock: MockClock) -> None:
    """Members that are retried have the time of the batch that they were in."""

    async def store(items: list[str]) -> None:
        await trio.sleep(1)
        raise BatchError({len(items) - 1: OSError()})

    watch = Watch()
    await (Producer("ab") | Consumer(store, batch=Batch(2), on_error=[watch, Skip()])).run()
    assert watch.seen == [("b", 1, 1.0), ("b", 2, 12.0), ("b", 3, 23.0)]


async def test_a_member_that_was_never_tried_has_no_time() -> None:
    """The error of a key function has no time."""
    watch = Watch(times=0)
    key = {"b": 1}.__getitem__
    await (
        Producer("a") | Consumer(refuse, batch=Batch(2, key=key), on_error=[watch, Skip()])
    ).run()
    assert watch.seen == [("a", 1, None)]


async def test_a_single_call_tells_the_time(autojump_clock: MockClock) -> None:
    """`retry` counts from its start."""
    watch = Watch()
    with pytest.raises(OSError, match="attempts made: 3"):
        await retry(watch, refuse, "a")
    assert watch.seen == [(("a",), 1, 1.0), (("a",), 2, 12.0), (("a",), 3, 23.0)]


async def test_a_step_whose_policies_do_not_ask_tells_no_time() -> None:
    """The clock is not read if no policy asks for the time."""
    report = await (Producer("a") | Consumer(refuse_now, on_error=[Retry(0), Skip()])).run()
    assert [error.elapsed for error in report.errors] == [None]


# ---- runs ----


@pytest.mark.parametrize("within", [24.0, 35.9])
async def test_a_run_gives_up_in_time(autojump_clock: MockClock, within: float) -> None:
    """The third attempt begins after 24 seconds; a fourth would begin after 36."""
    policies: Iterable[ErrorPolicy] = [every(11, within=within), Skip()]
    report = await (Producer("a") | Consumer(refuse, on_error=policies)).run()
    assert report.steps[0].retried == 2
    assert [(error.attempt, error.elapsed) for error in report.errors] == [(3, 25.0)]


async def test_a_run_tries_for_ever_until_its_deadline(autojump_clock: MockClock) -> None:
    """`drain` with a deadline ends an item that never succeeds."""
    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer("a") | Consumer(refuse, on_error=[every(9)])).run)
        await trio.sleep(1000)
        run.drain(deadline=trio.current_time() + 500)
    report = run.report().steps[0]
    assert (report.retried, report.cut_off) == (150, ("a",))


def test_the_time_is_kept_in_pickles() -> None:
    """An error that was sent to another process still has its time."""
    assert pickle.loads(pickle.dumps(failed(2, 5.0))).elapsed == 5.0
