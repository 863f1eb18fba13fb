"""`RateLimiter` does what users of token buckets (aiolimiter, token_bucket) rely on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import RateLimiter


def passes(*rates: RateLimiter) -> bool:
    """Say whether one call passes now, by all of the rates."""
    try:
        for rate in rates:
            rate.acquire_nowait()
    except trio.WouldBlock:
        return False
    return True


def passing(rate: RateLimiter) -> int:
    """Return how many calls pass now, one by one."""
    count = 0
    while passes(rate):
        count += 1
    return count


RATES = [(0.3, 1), (1, 1), (2.5, 1), (0.1, 7), (10, 100), (10, 10), (100, 10), (1000, 1)]


@pytest.mark.parametrize(("per_second", "burst"), RATES)
async def test_a_bucket_fills_up_to_its_burst_and_no_further(
    mock_clock: MockClock, per_second: float, burst: int
) -> None:
    """A bucket is full at first, gains one in each period, and is full again after ``burst``."""
    rate = RateLimiter(per_second, burst)
    assert passing(rate) == burst
    mock_clock.jump(0.9 / per_second)
    assert passing(rate) == 0
    mock_clock.jump(0.1 / per_second)
    assert passing(rate) == 1
    for quiet in (burst, burst + 0.5, 1000 * burst):
        mock_clock.jump(quiet / per_second)
        assert passing(rate) == burst


@pytest.mark.parametrize("at_a_time", [1, 2, 4, 10])
async def test_who_keeps_to_the_rate_is_never_refused(
    mock_clock: MockClock, at_a_time: int
) -> None:
    """Thousands of turns add up to no rounding error: the burst neither shrinks nor grows."""
    rate = RateLimiter(100, at_a_time)
    for turn in range(5000):
        # Adding up the turns would come too early in the end, because floats do not add up exactly.
        mock_clock.jump(max(0.0, turn * at_a_time / 100 - trio.current_time()))
        assert passing(rate) == at_a_time


@pytest.mark.parametrize(("asked", "share"), [(2, 1 / 2), (3, 1 / 3), (10, 1 / 10)])
async def test_who_asks_too_often_passes_at_the_rate(
    mock_clock: MockClock, asked: int, share: float
) -> None:
    """Refused calls use nothing up, so the share of calls that the rate allows passes."""
    rate = RateLimiter(100, 10)
    passing(rate)
    passed = 0
    for _ in range(1000):
        mock_clock.jump(1 / (100 * asked))
        passed += passes(rate)
    assert passed == pytest.approx(1000 * share, abs=1)


async def test_each_rate_is_for_itself(mock_clock: MockClock) -> None:
    """With one limiter per key, what one key has used up costs the others nothing."""
    rates = {key: RateLimiter(10, 10) for key in ("a", b"b", 3)}
    for rate in rates.values():
        assert passing(rate) == 10
    mock_clock.jump(0.2)
    assert passing(rates["a"]) == 2
    mock_clock.jump(0.2)
    assert (passing(rates["a"]), passing(rates[3])) == (2, 4)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
async def test_waiting_callers_pass_one_in_each_period(
    autojump_clock: MockClock, share: float
) -> None:
    """At five in ten seconds, five pass at once, and then one passes every two seconds."""
    rate, passed = RateLimiter(5 / 10, 5), list[float]()

    async def caller() -> None:
        await rate.acquire()
        passed.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(caller)
        await trio.sleep(2 * share)
        for _ in range(4):
            nursery.start_soon(caller)
    assert passed == pytest.approx([0] * 5 + [2, 4, 6, 8])


@pytest.mark.parametrize("leaves_after", [0.5, 1.5])
async def test_who_leaves_the_queue_makes_room(
    autojump_clock: MockClock, leaves_after: float
) -> None:
    """The next caller passes when the one who left would have."""
    rate, passed = RateLimiter(1 / 2), list[float]()
    rate.acquire_nowait()

    async def caller(patience: float) -> None:
        with trio.move_on_after(patience):
            await rate.acquire()
            passed.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for patience in (leaves_after, 99.0):
            nursery.start_soon(caller, patience)
            await trio.testing.wait_all_tasks_blocked()
    assert passed == [2]


async def test_two_rates_hold_together(autojump_clock: MockClock) -> None:
    """A caller that acquires both three a second and five in ten seconds keeps to both."""
    often, seldom, passed = RateLimiter(3), RateLimiter(5 / 10, 5), list[float]()
    for _ in range(8):
        await seldom.acquire()
        await often.acquire()
        passed.append(trio.current_time())
    assert passed[:5] == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3])
    assert passed[5:] == pytest.approx([2, 4, 6])


@given(st.lists(st.floats(0, 5), max_size=30), st.integers(1, 5))
def test_without_blocking_it_is_a_bucket_by_the_book(pauses: Sequence[float], burst: int) -> None:
    """At any times, it lets pass exactly the calls that a bucket with exact numbers would."""
    clock, rate = MockClock(), RateLimiter(1, burst)

    async def main() -> None:
        tokens: float = burst
        for pause in pauses:
            clock.jump(pause)
            tokens = min(burst, tokens + pause)
            if abs(tokens - 1) < 1e-6:
                return
            assert passes(rate) == (tokens >= 1)
            tokens -= tokens >= 1

    trio.run(main, clock=clock)
