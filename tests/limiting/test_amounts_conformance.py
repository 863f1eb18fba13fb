"""Amounts do what users of token buckets (aiolimiter, token_bucket) rely on."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Budget, RateLimiter


def passes(rate: RateLimiter, amount: float) -> bool:
    """Say whether an amount passes now."""
    try:
        rate.acquire_nowait(amount)
    except trio.WouldBlock:
        return False
    return True


@pytest.mark.parametrize(
    ("per_second", "burst", "amounts"),
    [(10, 10, [3, 3, 4]), (1, 100, [99, 1]), (5, 20, [20]), (0.5, 4, [0.5, 3.5]), (2, 7, [7, 0])],
)
async def test_a_full_bucket_gives_its_burst_in_any_parts(
    mock_clock: MockClock, per_second: float, burst: int, amounts: list[float]
) -> None:
    """The whole burst passes at once, in any parts, and nothing beyond it."""
    rate = RateLimiter(per_second, burst)
    assert all(passes(rate, amount) for amount in amounts)
    assert not passes(rate, 0.01)


@pytest.mark.parametrize(("amount", "seconds"), [(1, 0.1), (5, 0.5), (10, 1.0), (0.5, 0.05)])
async def test_an_amount_comes_back_in_proportion(
    mock_clock: MockClock, amount: float, seconds: float
) -> None:
    """An amount passes after its part of the time, and not a moment before."""
    rate = RateLimiter(10, 10)
    rate.acquire_nowait(10)
    mock_clock.jump(seconds * 0.99)
    assert not passes(rate, amount)
    mock_clock.jump(seconds * 0.01 + 1e-9)
    assert passes(rate, amount)


async def test_what_does_not_fit_takes_nothing(mock_clock: MockClock) -> None:
    """A refused amount leaves everything for a smaller one."""
    rate = RateLimiter(1, 10)
    rate.acquire_nowait(4)
    assert not passes(rate, 7)
    assert passes(rate, 6)


async def test_a_bucket_that_is_asked_for_nothing_stays_full(mock_clock: MockClock) -> None:
    """A long quiet time adds nothing beyond the burst."""
    rate = RateLimiter(10, 10)
    mock_clock.jump(1e6)
    assert passes(rate, 10)
    assert not passes(rate, 1)


@pytest.mark.parametrize("amount", [2, 5, 10])
async def test_waiting_callers_pass_at_distances_of_their_amounts(
    autojump_clock: MockClock, amount: float
) -> None:
    """At ten in ten seconds, equal callers pass every ``amount`` seconds once the burst is used."""
    rate, passed = RateLimiter.per(10, seconds=10), list[float]()

    async def caller() -> None:
        await rate.acquire(amount)
        passed.append(trio.current_time())

    rate.acquire_nowait(10)
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(caller)
    assert passed == pytest.approx([amount * (place + 1) for place in range(6)])


async def test_amounts_that_are_equal_in_sum_take_equal_time(autojump_clock: MockClock) -> None:
    """One large caller takes as long as many small ones."""
    ends = list[float]()
    for amounts in ([50] * 2, [10] * 10, [1] * 100, [0.5] * 200):
        rate, began = RateLimiter(10, 50), trio.current_time()
        rate.acquire_nowait(50)
        for amount in amounts:
            await rate.acquire(amount)
        ends.append(trio.current_time() - began)
    assert ends == pytest.approx([10] * 4)


async def test_a_long_queue_of_mixed_amounts_keeps_its_order(autojump_clock: MockClock) -> None:
    """No small amount slips past a large one."""
    rate, passed = RateLimiter(100, 50), list[int]()

    async def caller(number: int) -> None:
        await rate.acquire(1 + 7 * number % 50)
        passed.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(caller, number)
            await wait_all_tasks_blocked()
    assert passed == list(range(100))


@pytest.mark.parametrize("gone", [0, 3, 5])
async def test_who_leaves_the_queue_makes_room_for_the_next(
    autojump_clock: MockClock, gone: int
) -> None:
    """The others pass as if the caller had never been in the queue, wherever it was."""
    rate, passed = RateLimiter(1, 10), list[tuple[int, float]]()
    rate.acquire_nowait(10)

    async def caller(number: int) -> None:
        with trio.move_on_after(0.5 if number == gone else 1e6):
            await rate.acquire(2)
            passed.append((number, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(caller, number)
            await wait_all_tasks_blocked()
    others = [number for number in range(6) if number != gone]
    assert passed == [(number, 2 * (place + 1)) for place, number in enumerate(others)]


async def test_buckets_hold_together(autojump_clock: MockClock) -> None:
    """A budget of a rate per second and a rate per minute keeps to both."""
    budget = Budget(second=RateLimiter(10, 10), minute=RateLimiter.per(60, seconds=60))
    passed = list[float]()
    for _ in range(10):
        async with budget.reserve(second=10, minute=10):
            passed.append(trio.current_time())
    assert passed == pytest.approx([0, 1, 2, 3, 4, 5, 10, 20, 30, 40])
