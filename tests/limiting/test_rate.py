"""`RateLimiter`: a rate limit with bursts."""

from __future__ import annotations

import math
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_turnstile import Consumer, Producer, RateLimiter, Retry, Scalable, Skip, run_phases
from trio_turnstile.testing import assert_conserved


async def passes(rate: RateLimiter, times: int) -> list[float]:
    """Return the times at which callers that all arrive now may pass."""
    passed: list[float] = []

    async def caller() -> None:
        await rate.acquire()
        passed.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(caller)
    return passed


async def test_callers_pass_at_even_distances(autojump_clock: MockClock) -> None:
    """Without a burst they pass ``1 / per_second`` seconds apart."""
    assert await passes(RateLimiter(4), 5) == [0, 0.25, 0.5, 0.75, 1.0]


async def test_a_burst_passes_at_once(autojump_clock: MockClock) -> None:
    """The rest pass at the rate; after a quiet time another burst may pass."""
    rate = RateLimiter(2, burst=3)
    assert await passes(rate, 5) == [0, 0, 0, 0.5, 1.0]
    await trio.sleep(10)
    assert await passes(rate, 4) == [11, 11, 11, 11.5]


async def test_without_blocking(autojump_clock: MockClock) -> None:
    """`acquire_nowait` passes or raises, and does not overtake waiting tasks."""
    rate = RateLimiter(1)
    rate.acquire_nowait()
    with pytest.raises(trio.WouldBlock):
        rate.acquire_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rate.acquire)
        await wait_all_tasks_blocked()
        await trio.sleep(0.5)
        with pytest.raises(trio.WouldBlock):
            rate.acquire_nowait()
    assert trio.current_time() == 1


async def test_acquire_always_checkpoints(autojump_clock: MockClock) -> None:
    """Acquiring is a checkpoint whether or not it has to wait."""
    rate = RateLimiter(1)
    for _ in range(2):
        with assert_checkpoints():
            await rate.acquire()


async def test_a_faster_rate_applies_to_waiting_tasks(autojump_clock: MockClock) -> None:
    """Waiting tasks pass sooner at once."""
    rate = RateLimiter(0.1)
    rate.acquire_nowait()
    async with trio.open_nursery() as nursery:
        passed: list[float] = []

        async def caller() -> None:
            await rate.acquire()
            passed.append(trio.current_time())

        nursery.start_soon(caller)
        nursery.start_soon(caller)
        await trio.sleep(5)
        rate.per_second = 1.0
        assert rate.per_second == 1.0
    assert passed == [5.5, 6.5]


async def test_a_slower_rate_applies_to_waiting_tasks(autojump_clock: MockClock) -> None:
    """No task passes at the time given by the old rate."""
    rate = RateLimiter(1)
    rate.acquire_nowait()
    with trio.move_on_after(1.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rate.acquire)
            await trio.sleep(0.5)
            rate.per_second = 0.25
            await trio.sleep_forever()
    await rate.acquire()
    assert trio.current_time() == 2.5


async def test_cancelled_callers_use_nothing_up(autojump_clock: MockClock) -> None:
    """The next task passes when the cancelled one would have."""
    rate = RateLimiter(1)
    rate.acquire_nowait()
    with trio.move_on_after(0.5):
        await rate.acquire()
    await rate.acquire()
    assert trio.current_time() == 1


def test_the_rate_may_be_set_outside_a_run() -> None:
    """A rate may be set before any task runs."""
    rate = RateLimiter(1, burst=7)
    rate.per_second = 5
    assert (rate.per_second, rate.burst) == (5, 7)
    assert repr(rate) == "<trio_turnstile.RateLimiter 5/s, burst 7, 0 waiting>"


@pytest.mark.parametrize(
    ("per_second", "burst", "error", "message"),
    [
        (0, 1, ValueError, "per_second must be more than 0, not 0"),
        (-1, 1, ValueError, "per_second must be more than 0, not -1"),
        (math.nan, 1, ValueError, "per_second must be more than 0, not nan"),
        ("5", 1, TypeError, "per_second must be a number, not '5'"),
        (1, 0, ValueError, "burst must be at least 1, not 0"),
        (1, 1.5, TypeError, "burst must be an int, not 1.5"),
    ],
)
def test_bad_values_are_named(
    per_second: float, burst: int, error: type[Exception], message: str
) -> None:
    """A bad value gets an error that names it and the rule."""
    with pytest.raises(error, match=message):
        RateLimiter(per_second, burst)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0.1, 1000),
    st.integers(1, 10),
    st.lists(st.floats(0, 5), max_size=40),
)
def test_no_window_sees_more_than_rate_and_burst(
    per_second: float, burst: int, waits: list[float]
) -> None:
    """In any period at most ``per_second * seconds + burst`` pass."""

    async def main() -> None:
        rate = RateLimiter(per_second, burst)
        passed: list[float] = []

        async def caller() -> None:
            await rate.acquire()
            passed.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for wait in waits:
                await trio.sleep(wait / per_second)
                nursery.start_soon(caller)
        assert len(passed) == len(waits)
        for first, begin in enumerate(passed):
            for last in range(first, len(passed)):
                window = passed[last] - begin
                assert last - first + 1 <= per_second * window + burst + 1e-6

    trio.run(main, clock=MockClock(autojump_threshold=0))


class Stamp(Scalable):
    """An operation that notes when it begins, and fails the first time if asked to."""

    def __init__(self, begun: list[float], *, fails: bool = False) -> None:
        self.begun = begun
        self.fails = fails

    async def work(self, channels: object) -> None:
        self.begun.append(trio.current_time())
        if self.fails:
            self.fails = False
            raise OSError


async def test_phases_keep_to_a_rate(autojump_clock: MockClock) -> None:
    """Operations begin at the rate, and retries count."""
    begun: list[float] = []
    report = await run_phases(
        [Stamp(begun, fails=True), Stamp(begun), Stamp(begun)],
        limiter=10,
        rate=RateLimiter(2),
        on_error=[Retry(1, backoff=lambda n: 0), Skip()],
    )
    assert_conserved(report)
    assert report.completed == 3
    assert sorted(begun) == [0, 0.5, 1.0, 1.5]


async def test_a_rate_holds_no_token_and_hardly_reads_ahead(autojump_clock: MockClock) -> None:
    """While an item waits for the rate, tokens are free and the source is not read."""
    limiter = trio.CapacityLimiter(5)
    taken: list[int] = []

    def source() -> object:
        for number in range(50):
            taken.append(number)
            yield number

    async def consume(item: object) -> None:
        await trio.sleep(0.01)

    pipeline = Producer(source) | Consumer(consume, limiter=limiter, rate=RateLimiter(1))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        flow = await nursery.start(pipeline.run)
        await trio.sleep(3.5)
        assert limiter.borrowed_tokens == 0
        assert len(taken) <= 6
        flow.drain()
    assert_conserved(flow)


async def test_one_rate_for_several_steps(autojump_clock: MockClock) -> None:
    """Steps that share a rate keep to it together."""
    rate, begun = RateLimiter(10), list[float]()
    runs = [partial(run_phases, [Stamp(begun) for _ in range(5)], limiter=5, rate=rate)] * 2
    async with trio.open_nursery() as nursery:
        for run in runs:
            nursery.start_soon(run)
    assert len(begun) == 10
    assert trio.current_time() == pytest.approx(0.9)
