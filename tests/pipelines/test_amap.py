"""One function for many items: `amap` and `amap_list`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints

from testkit.pipelines import CountedSource, Gauge, account, takes, unchanged
from trio_turnstile import (
    DISCARD,
    Aborted,
    Discard,
    Limiter,
    Many,
    RateLimiter,
    Retry,
    Skip,
    amap,
    amap_list,
)


async def nap(seconds: float) -> float:
    await trio.sleep(seconds)
    return seconds


async def odd_fails(number: int) -> int:
    await trio.lowlevel.checkpoint()
    if number % 2:
        raise OSError(number)
    return number


async def test_results_come_as_they_are_finished(autojump_clock: MockClock) -> None:
    """The quickest item is the first result."""
    async with amap(nap, [3.0, 1.0, 2.0], limiter=3) as results:
        assert [seconds async for seconds in results] == [1, 2, 3]


async def test_results_come_in_order_if_asked_to(autojump_clock: MockClock) -> None:
    """With ``ordered=True`` the first item is the first result."""
    async with amap(nap, [3.0, 1.0, 2.0], limiter=3, ordered=True) as results:
        assert [seconds async for seconds in results] == [3, 1, 2]


async def test_no_more_run_than_the_limiter_allows(autojump_clock: MockClock) -> None:
    """A number, a `Limiter` and a `trio.CapacityLimiter` all bound what runs."""
    for limiter in (2, Limiter("api", 2), trio.CapacityLimiter(2)):
        gauge = Gauge()
        async with amap(gauge, range(6), limiter=limiter) as results:
            assert sorted([number async for number in results]) == list(range(6))
        assert gauge.most == 2


async def test_items_are_read_only_as_results_are_taken(autojump_clock: MockClock) -> None:
    """The window bounds how far the source is read ahead of the loop."""
    source = CountedSource()
    async with amap(unchanged, source, limiter=5, window=8) as results:
        await anext(results)
        await trio.sleep(1)
        assert source.taken == 9
    assert account(results.report())["unchanged"] == (9, 1, 0, 0, 0, 8)


async def test_options_are_those_of_a_step(autojump_clock: MockClock) -> None:
    """Rate, timeout, key, policies and name have the same effect as for a processor."""
    async with amap(
        nap,
        [1.0, 9.0, 1.0],
        rate=RateLimiter(1),
        key=lambda seconds: seconds,
        timeout=5,
        on_error=[Skip(on=trio.TooSlowError)],
        name="dozing",
    ) as results:
        assert [seconds async for seconds in results] == [1, 1]
    assert results.report()["dozing"].failed == 1
    assert trio.current_time() == 6  # begun after 0, 1 and 2 seconds; the long one is cut off


async def test_amap_without_policies_raises_the_first_error() -> None:
    """An error that no policy decides about comes out of the block as `Aborted`."""
    with pytest.raises(Aborted) as caught:
        async with amap(odd_fails, range(9), limiter=1) as results:
            assert [number async for number in results] == [0]
    assert [error.item for error in caught.value.exceptions] == [1]


@pytest.mark.parametrize("function", [amap, amap_list])
async def test_an_unknown_option_is_refused(function: Callable[..., Any]) -> None:
    """The message has the name of the function and the options that exist."""
    with pytest.raises(TypeError, match=f"^{function.__name__} has no option 'limit'; .*limiter"):
        await function(unchanged, [1], limit=5)


# ---- the list ----


async def test_the_list_is_in_the_order_of_the_items(autojump_clock: MockClock) -> None:
    """The results of slow items stand where their items stood."""
    assert await amap_list(nap, [3.0, 1.0, 2.0], limiter=3) == [3, 1, 2]
    assert trio.current_time() == 3


async def test_one_slow_item_does_not_hold_up_the_list(autojump_clock: MockClock) -> None:
    """Hundreds of later items are finished while an early one is not."""
    assert len(await amap_list(nap, [100.0, *[1.0] * 990], limiter=10)) == 991
    assert trio.current_time() == 109


async def test_the_window_of_a_list_can_be_narrowed(autojump_clock: MockClock) -> None:
    """With a window of two, the second item runs beside the first, and no third one."""
    assert await amap_list(nap, [5.0, 1.0, 1.0], limiter=3, window=2) == [5, 1, 1]
    assert trio.current_time() == 6


async def test_a_list_without_a_limiter_runs_64_items_at_a_time(autojump_clock: MockClock) -> None:
    """The default window of a step bounds what runs."""
    gauge = Gauge()
    assert await amap_list(gauge, range(100)) == list(range(100))
    assert gauge.most == 64


async def test_the_list_without_policies_raises_the_first_error() -> None:
    """An error that no policy decides about is raised as `Aborted`, in no other group."""
    with pytest.raises(Aborted) as caught:
        await amap_list(odd_fails, range(9), limiter=1)
    assert [error.item for error in caught.value.exceptions] == [1]


async def test_items_without_a_result_are_left_out_of_the_list() -> None:
    """Skipped and discarded items have no place in the list; `Many` has several."""

    async def spread(number: int) -> Many[int] | Discard:
        await trio.lowlevel.checkpoint()
        return DISCARD if number == 2 else Many([await odd_fails(number)] * 2)

    assert await amap_list(spread, range(5), limiter=2, on_error=[Skip()]) == [0, 0, 4, 4]


async def test_policies_retry_items_of_a_list(autojump_clock: MockClock) -> None:
    """The result of a later attempt stands where its item stood."""
    failures = iter([OSError(), OSError()])

    async def flaky(number: int) -> int:
        await trio.lowlevel.checkpoint()
        if number == 0:
            for error in failures:
                raise error
        return number

    assert await amap_list(flaky, range(3), limiter=3, on_error=[Retry(2)]) == [0, 1, 2]


async def test_any_source_and_an_opened_function_will_do() -> None:
    """Items may come from an async generator, and the function from a context manager."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await trio.lowlevel.checkpoint()
        yield 2

    @asynccontextmanager
    async def opened() -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        yield unchanged

    assert await amap_list(opened(), numbers) == [1, 2]


async def test_cancelling_a_list_cancels_its_calls(autojump_clock: MockClock) -> None:
    """A timeout around it ends the calls that run, and gives back their tokens."""
    api = Limiter("api", 2)
    with trio.move_on_after(5) as scope:
        await amap_list(takes(9), range(4), limiter=api)
    assert scope.cancelled_caught
    assert api.borrowed_tokens == 0


async def test_an_empty_list_is_a_checkpoint() -> None:
    """An empty list is a checkpoint, so other tasks run."""
    with assert_checkpoints():
        assert await amap_list(unchanged, cast("list[int]", []), limiter=5) == []
