"""Limiters that outlive a trio run, or are used in two runs at once."""

from __future__ import annotations

import math
import threading

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import (
    Consumer,
    Limiter,
    Producer,
    RateLimiter,
    Throttle,
    open_turnstile,
)


def clock_at(start: float) -> MockClock:
    clock = MockClock(autojump_threshold=0)
    clock.jump(start)
    return clock


@pytest.mark.parametrize("starts", [(900_000, 10_000), (10_000, 900_000), (5, 5)])
def test_a_rate_starts_afresh_in_each_run(starts: tuple[float, float]) -> None:
    """The rate starts with a full burst, whatever the clocks of the runs say."""
    rate = RateLimiter(1, burst=3)

    async def main() -> float:
        begin = trio.current_time()
        for _ in range(5):
            await rate.acquire()
        return trio.current_time() - begin

    for start in starts:
        assert trio.run(main, clock=clock_at(start)) == pytest.approx(2)


def test_a_rate_is_retuned_between_two_runs() -> None:
    """Outside of a run there is no clock, and a rate needs none there."""
    rate = RateLimiter(1)

    async def main() -> float:
        begin = trio.current_time()
        for _ in range(3):
            await rate.acquire()
        return trio.current_time() - begin

    assert trio.run(main, clock=clock_at(100)) == pytest.approx(2)
    rate.per_second = 4
    assert trio.run(main, clock=clock_at(50)) == pytest.approx(0.5)


def test_a_limiter_holds_in_one_run_only() -> None:
    """The hold of an assignment in one run is over in the next."""
    api = Limiter("api", 10, throttle=Throttle(hold=30))

    async def assign() -> None:
        api.total_tokens = 8

    async def signal() -> float:
        async with open_turnstile() as turnstile:
            turnstile.add(api)
            api.down()
            await trio.testing.wait_all_tasks_blocked()
            return api.total_tokens

    trio.run(assign, clock=clock_at(900_000))
    assert trio.run(signal, clock=clock_at(10_000)) == 6


def test_a_hold_counts_from_an_assignment_before_the_limiter_joined() -> None:
    """The hold of an assignment before the limiter joined applies in the same run."""

    async def main() -> float:
        api = Limiter("api", 10, throttle=Throttle(hold=30))
        api.total_tokens = 8
        async with open_turnstile() as turnstile:
            turnstile.add(api)
            api.down()
            await trio.testing.wait_all_tasks_blocked()
            return api.total_tokens

    assert trio.run(main, clock=clock_at(900_000)) == 8


async def in_another_run(function: object, *args: object) -> list[BaseException]:
    """Run in a trio run in another thread while this one goes on, and return its errors."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            trio.run(function, *args)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await trio.to_thread.run_sync(thread.join)
    return errors


async def hold(api: Limiter) -> None:
    async with api:
        await trio.lowlevel.checkpoint()


async def test_a_limiter_in_two_runs_is_told() -> None:
    """A task that would wait for a token of another run gets an error, and nobody hangs."""
    api = Limiter("api", 1)
    async with api:
        (error,) = await in_another_run(hold, api)
    assert isinstance(error, RuntimeError)
    assert "limiter 'api' is in use in another trio run" in str(error)
    async with api:
        pass


async def test_a_limiter_of_a_pipeline_in_two_runs_is_told(autojump_clock: None) -> None:
    """A step whose limiter another run uses gets an error, since it holds tokens for its items."""
    api = Limiter("api", 1)
    pipeline = Producer([1]) | Consumer(trio.sleep, limiter=api)
    errors: list[BaseException] = []

    async def step(item: int) -> None:
        errors.extend(await in_another_run(pipeline.run))

    await (Producer([1]) | Consumer(step, limiter=api)).run()
    (error,) = errors
    assert "is in use in another trio run" in str(error)


async def test_a_rate_in_two_runs_is_told() -> None:
    """Each of two runs would take the other's passes for its own."""
    rate = RateLimiter(1)
    await rate.acquire()
    (error,) = await in_another_run(rate.acquire)
    assert "is in use in another trio run" in str(error)
    rate.per_second = math.inf
    await rate.acquire()


# ---- exact rates ----


@given(
    st.floats(1e-3, 1e6),
    st.integers(1, 200),
    st.floats(0, 1e6),
    st.floats(0, 1000),
)
def test_a_burst_is_exact(rate: float, burst: int, start: float, idle: float) -> None:
    """At one instant exactly the burst passes, at first and again after a quiet time."""

    async def main() -> None:
        limiter = RateLimiter(rate, burst=burst)
        for _ in range(2):
            for _ in range(burst):
                limiter.acquire_nowait()
            with pytest.raises(trio.WouldBlock):
                limiter.acquire_nowait()
            await trio.sleep(idle + burst / rate * 1.001 + 1e-3)

    trio.run(main, clock=clock_at(start))


@given(st.floats(0.01, 1e5), st.integers(1, 20), st.floats(0, 1e6), st.integers(1, 200))
def test_a_rate_is_kept_in_the_long_run(rate: float, burst: int, start: float, n: int) -> None:
    """Passing n callers more than the burst takes n intervals."""

    async def main() -> float:
        limiter = RateLimiter(rate, burst=burst)
        begin = trio.current_time()
        for _ in range(burst + n):
            await limiter.acquire()
        return trio.current_time() - begin

    assert trio.run(main, clock=clock_at(start)) == pytest.approx(n / rate, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("first", [10, math.inf])
async def test_a_rate_goes_to_infinity_and_back(autojump_clock: MockClock, first: float) -> None:
    """Infinity is no limit, and leaves nothing behind."""
    rate = RateLimiter(first)
    await rate.acquire()
    rate.per_second = math.inf
    for _ in range(5):
        await rate.acquire()
    rate.per_second = 10
    begin = trio.current_time()
    for _ in range(101):
        await rate.acquire()
    assert trio.current_time() - begin == pytest.approx(10, abs=0.2)


async def test_a_tiny_rate_can_be_raised(autojump_clock: MockClock) -> None:
    """At a tiny rate the wait is endless in practice, until the rate is changed."""
    rate = RateLimiter(5e-324)
    await rate.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rate.acquire)
        await trio.sleep(1000)
        rate.per_second = 1
    assert trio.current_time() <= 1002
