"""The limiters of steps: what they bound, and how they move."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.pipelines import Gauge, account, into
from trio_turnstile import Consumer, Limiter, Processor, Producer, Throttle


@pytest.mark.parametrize("make", [int, trio.CapacityLimiter, partial(Limiter, "api")])
async def test_any_limiter_bounds_a_step(autojump_clock: MockClock, make: Any) -> None:
    """A number, trio's limiter and ours bound a step in the same way."""
    gauge = Gauge()
    report = await (Producer(range(10)) | Consumer(gauge, limiter=make(2))).run()
    assert account(report)["Gauge"] == (10, 10, 0, 0, 0, 0)
    assert (gauge.most, trio.current_time()) == (2, 5)


async def test_a_limit_may_be_infinite(autojump_clock: MockClock) -> None:
    """A step with an infinite limit is bounded by its window."""
    gauge = Gauge()
    await (Producer(range(100)) | Consumer(gauge, limiter=math.inf, window=50)).run()  # type: ignore[call-overload]
    assert gauge.most == 50


async def test_slow_items_do_not_hold_up_fast_ones(autojump_clock: MockClock) -> None:
    """Fast items overtake slow ones."""
    stored: list[float] = []

    async def work(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    await (Producer([9, 1, 1, 1]) | Processor(work, limiter=2) | Consumer(into(stored))).run()
    assert stored == [1, 1, 1, 9]
    assert trio.current_time() == 9


async def test_latency_case_takes_little_more_than_its_work(autojump_clock: MockClock) -> None:
    """With rare slow items the total is within 5 % of the work divided by the tokens."""
    tokens, items = 10, 10_000

    async def work(number: int) -> int:
        await trio.sleep(2 if number % 100 == 0 else 0.05)
        return number

    stored: list[int] = []
    report = await (
        Producer(range(items)) | Processor(work, limiter=tokens) | Consumer(into(stored))
    ).run()
    bound = (items * 0.99 * 0.05 + items * 0.01 * 2) / tokens
    assert bound <= trio.current_time() <= 1.05 * bound
    assert account(report)["work"] == (items, items, 0, 0, 0, 0)
    assert sorted(stored) == list(range(items))


async def test_stages_run_side_by_side(autojump_clock: MockClock) -> None:
    """One step works on an item while the step before works on the next."""
    await (
        Producer(range(10))
        | Processor(Gauge(), limiter=1)
        | Processor(Gauge(), limiter=1)
        | Consumer(Gauge(), limiter=1)
    ).run()
    assert trio.current_time() == 12


@pytest.mark.parametrize("make", [trio.CapacityLimiter, partial(Limiter, "both")])
async def test_one_token_over_two_stages_is_no_deadlock(
    autojump_clock: MockClock, make: Any
) -> None:
    """Steps that share a limiter of one token do not deadlock."""
    limiter = make(1)
    gauge = Gauge()
    report = await (
        Producer(range(20))
        | Processor(gauge, limiter=limiter, window=1, name="one")
        | Processor(gauge, limiter=limiter, window=1, name="two")
        | Consumer(gauge, limiter=limiter, window=1, name="three")
    ).run()
    assert account(report) == dict.fromkeys(("one", "two", "three"), (20, 20, 0, 0, 0, 0))
    assert (gauge.most, trio.current_time()) == (1, 60)


@pytest.mark.parametrize("make", [trio.CapacityLimiter, partial(Limiter, "both")])
async def test_pipelines_behind_one_busy_limiter_all_begin(
    autojump_clock: MockClock, make: Any
) -> None:
    """Runs that wait for the same released token do not pass it round for ever."""
    limiter = make(1)
    async with trio.open_nursery() as nursery:
        async with limiter:
            runs = [
                await nursery.start((Producer(range(3)) | Consumer(Gauge(), limiter=limiter)).run)
                for _ in range(3)
            ]
            await wait_all_tasks_blocked()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert any(run.steps[0].received for run in runs)
    assert [account(run)["Gauge"][:2] for run in runs] == [(3, 3)] * 3
    assert trio.current_time() == 9


async def test_the_limit_of_a_limiter_of_trio_moves(autojump_clock: MockClock) -> None:
    """A limiter of trio tells nobody that it was raised, but the change still acts at once."""
    limiter, gauge = trio.CapacityLimiter(1), Gauge(10)
    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer(range(99)) | Consumer(gauge, limiter=limiter)).run)
        await trio.sleep(15)
        limiter.total_tokens = 8
        await trio.sleep(1)
        assert gauge.running == 8
        run.cancel()


async def test_the_limit_moves_while_the_pipeline_runs(autojump_clock: MockClock) -> None:
    """A raised limit acts at once, a lowered one lets running items finish, and 0 pauses."""
    limiter = Limiter("api", 1, throttle=Throttle(min=0))
    gauge = Gauge(10)
    running: list[int] = []
    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer(range(999)) | Consumer(gauge, limiter=limiter)).run)
        for tokens in (1, 8, 3, 0, 2):
            limiter.total_tokens = tokens
            await trio.sleep(1)
            just_after = gauge.running
            await trio.sleep(20)
            running += [just_after, gauge.running]
        run.cancel()
    assert running == [1, 1, 8, 8, 8, 3, 3, 0, 2, 2]
    assert account(run)["Gauge"][-1] >= 2
