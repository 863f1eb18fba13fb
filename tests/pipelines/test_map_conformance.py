"""Maps and pipelines do what users of aiometer, pypeln and slurry rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from testkit.pipelines import Gauge, slowly, takes, unchanged
from trio_turnstile import (
    DISCARD,
    Aborted,
    Batch,
    Consumer,
    Discard,
    Many,
    Processor,
    Producer,
    RateLimiter,
    Skip,
    amap,
    amap_list,
)

Function = Callable[[Any], Awaitable[Any]]
Form = Callable[..., Awaitable[list[Any]]]


# ---- four ways to call a function with many items ----


async def each(function: Function, items: Iterable[Any], **options: Any) -> list[Any]:
    """Call the function for each item, and keep nothing."""
    await (Producer(items) | Consumer(function, **options)).run()
    return []


async def as_they_come(function: Function, items: Iterable[Any], **options: Any) -> list[Any]:
    async with amap(function, items, **options) as results:
        return [result async for result in results]


async def all_results(function: Function, items: Iterable[Any], **options: Any) -> list[Any]:
    return await amap_list(function, items, **options)


async def by_operation(function: Function, items: Iterable[Any], **options: Any) -> list[Any]:
    """Call functions without arguments: they are the items."""

    async def call(operation: Callable[[], Awaitable[Any]]) -> Any:
        return await operation()

    return await amap_list(call, [lambda item=item: function(item) for item in items], **options)


FORMS = [each, as_they_come, all_results, by_operation]


@pytest.mark.parametrize("limit", [1, 2, 5, 20])
@pytest.mark.parametrize("form", FORMS)
async def test_so_many_run_at_once_and_no_more(
    autojump_clock: MockClock, form: Form, limit: int
) -> None:
    """All tokens are used while there are items, and each item is called once."""
    gauge = Gauge()
    await form(gauge, range(30), limiter=limit)
    assert (gauge.most, gauge.calls) == (limit, 30)
    assert trio.current_time() == -(-30 // limit)


@pytest.mark.parametrize("limit", [0, -1, -10])
@pytest.mark.parametrize("form", FORMS)
async def test_with_no_token_nothing_would_ever_run(form: Form, limit: int) -> None:
    """A limit that nobody could raise later is refused before any call."""
    gauge = Gauge()
    with pytest.raises(ValueError, match=str(limit)):
        await form(gauge, range(3), limiter=limit)
    assert gauge.calls == 0


@pytest.mark.parametrize("per_second", [5, 30, 70])
@pytest.mark.parametrize("form", FORMS)
async def test_calls_begin_one_in_each_period(
    autojump_clock: MockClock, form: Form, per_second: int
) -> None:
    """Calls begin at the rate however long they take, if the limit leaves room."""
    begun: list[float] = []

    async def call(item: int) -> None:
        begun.append(trio.current_time())
        await trio.sleep(10)

    await form(call, range(6), limiter=10, rate=RateLimiter(per_second))
    assert begun == pytest.approx([number / per_second for number in range(6)])


@pytest.mark.parametrize("form", FORMS)
async def test_the_narrower_of_limit_and_rate_decides(
    autojump_clock: MockClock, form: Form
) -> None:
    """The rate would allow one call a second, but both tokens are held for three seconds."""
    begun: list[float] = []

    async def call(item: int) -> None:
        begun.append(trio.current_time())
        await trio.sleep(3)

    await form(call, range(6), limiter=2, rate=RateLimiter(1))
    assert begun == [0, 1, 3, 4, 6, 7]


@pytest.mark.parametrize("form", FORMS)
async def test_the_first_error_ends_the_others(autojump_clock: MockClock, form: Form) -> None:
    """The error is the cause of what comes out, and no call is left running."""
    gauge, failure = Gauge(60), LookupError("banana")

    async def call(item: int) -> None:
        if item == 2:
            await trio.sleep(1)
            raise failure
        await gauge(item)

    with pytest.raises(Aborted) as caught:
        await form(call, range(9), limiter=4)
    assert [error.__cause__ for error in caught.value.exceptions] == [failure]
    assert (gauge.running, trio.current_time()) == (0, 1)


@pytest.mark.parametrize("seconds", [(3, 1, 2), (1, 2, 3), (2, 2, 1)])
async def test_the_first_result_may_be_enough(
    autojump_clock: MockClock, seconds: Sequence[float]
) -> None:
    """Leaving the block after the first result ends the other calls."""
    async with amap(lambda wait: takes(wait)(wait), seconds, limiter=3) as results:
        first = await anext(results)
    assert first == trio.current_time() == min(seconds)


async def test_leaving_again_and_again_leaves_nothing_behind() -> None:
    """After a hundred early exits from the loop there are no more tasks than before."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    for _ in range(100):
        async with (Producer(slowly(*range(10), every=0)) | Processor(unchanged)).open() as results:
            async for number in results:
                assert number == 0
                break
    assert trio.lowlevel.current_statistics().tasks_living == tasks


# ---- steps that map, filter and multiply ----


async def square(number: int) -> int:
    await trio.sleep(number % 3)
    return number**2


async def if_odd(number: int) -> int | Discard:
    await trio.sleep(number % 5)
    return number if number % 2 else DISCARD


async def neighbours(number: int) -> Many[int]:
    await trio.sleep(number % 4)
    return Many([number, number + 1, number + 2])


async def neighbours_yielded(number: int) -> AsyncIterator[int]:
    for step in range(3):
        yield number + step
        await trio.sleep(number % 2)


BY_HAND: dict[Any, Callable[[int], list[int]]] = {
    square: lambda number: [number**2],
    if_odd: lambda number: [number] * (number % 2),
    neighbours: lambda number: [number, number + 1, number + 2],
    neighbours_yielded: lambda number: [number, number + 1, number + 2],
}

STEPS = st.lists(
    st.tuples(st.sampled_from(list(BY_HAND)), st.sampled_from([None, 1, 2, 5])), max_size=3
)


@given(st.lists(st.integers(-50, 50), max_size=15), STEPS, st.booleans())
def test_steps_do_what_comprehensions_do(
    numbers: list[int], steps: list[tuple[Any, int | None]], ordered: bool
) -> None:
    """Whatever their limiters are, the same items come out, and in order if asked to."""

    async def main() -> list[int]:
        flow: Producer[int] = Producer(numbers)
        for function, limiter in steps:
            flow = flow | Processor(function, limiter=limiter, ordered=ordered or limiter is None)
        async with flow.open() as results:
            return [number async for number in results]

    expected = numbers
    for function, _ in steps:
        expected = [made for number in expected for made in BY_HAND[function](number)]
    found = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert sorted(found) == sorted(expected)
    if ordered:
        assert found == expected


@pytest.mark.parametrize("limiter", [1, 4])
async def test_an_item_that_hangs_costs_its_result_alone(
    autojump_clock: MockClock, limiter: int
) -> None:
    """With a timeout and `Skip`, nine of ten results are there."""

    async def call(number: int) -> int:
        if number == 2:
            await trio.sleep_forever()
        return number

    results = await amap_list(call, range(10), limiter=limiter, timeout=5, on_error=Skip())
    assert results == [0, 1, 3, 4, 5, 6, 7, 8, 9]
    assert trio.current_time() == 5


@pytest.mark.parametrize("pause", [1, 9])
async def test_what_yields_too_slowly_gives_nothing(
    autojump_clock: MockClock, pause: float
) -> None:
    """If the generator of an item runs out of time, not even its first value is passed on."""

    async def two(number: int) -> AsyncIterator[int]:
        yield number
        await trio.sleep(pause)
        yield -number

    async with amap(two, [1, 2], limiter=1, timeout=5, on_error=Skip()) as results:
        found = [number async for number in results]
    assert sorted(found) == ([-2, -1, 1, 2] if pause < 5 else [])


@pytest.mark.parametrize("items", [0, 1, 7])
async def test_what_a_step_needs_is_opened_once(items: int) -> None:
    """A resource is opened before the first item and closed after the last, even without items."""
    events: list[str] = []

    @asynccontextmanager
    async def session() -> AsyncIterator[Function]:
        events.append("open")

        async def call(number: int) -> int:
            events.append("call")
            await trio.lowlevel.checkpoint()
            return number

        yield call
        events.append("close")

    assert await amap_list(session(), range(items), limiter=3) == list(range(items))
    assert events == ["open", *["call"] * items, "close"]


# ---- sources and groups over time ----


async def test_one_flow_feeds_another(autojump_clock: MockClock) -> None:
    """The results of an open pipeline are a source, and are read as they come."""
    async with (
        amap(takes(1), range(5), limiter=1) as numbers,
        amap(takes(1), numbers, limiter=1) as results,
    ):
        assert [number async for number in results] == list(range(5))
    assert trio.current_time() == 6


async def groups(source: Any, batch: Batch) -> list[tuple[float, tuple[int, ...]]]:
    """Return the batches, each with the time at which it was closed."""

    async def stamped(numbers: list[int]) -> tuple[float, tuple[int, ...]]:
        return trio.current_time(), tuple(numbers)

    async with (Producer(source) | Processor(stamped, batch=batch)).open() as results:
        return [group async for group in results]


async def in_two_spells() -> AsyncIterator[int]:
    for wait in (0.1, 0.1, 0.1, 5, 0.1):
        await trio.sleep(wait)
        yield 1


@pytest.mark.parametrize(
    ("source", "batch", "expected"),
    [
        (lambda: slowly(*range(5)), Batch(3, within=2.5), [(3, (0, 1, 2)), (5, (3, 4))]),
        (lambda: slowly(*range(5)), Batch(99, within=2.5), [(3.5, (0, 1, 2)), (5, (3, 4))]),
        (lambda: slowly(*range(4)), Batch(2), [(2, (0, 1)), (4, (2, 3))]),
        (in_two_spells, Batch(99, within=2.5), [(2.6, (1, 1, 1)), (5.4, (1, 1))]),
    ],
    ids=["by size", "by age", "no age", "spells"],
)
async def test_items_are_grouped_over_time(
    autojump_clock: MockClock, source: Any, batch: Batch, expected: list[Any]
) -> None:
    """A group is closed when it is full, when it is old enough, and at the end of the source."""
    found = await groups(source(), batch)
    assert [numbers for _, numbers in found] == [numbers for _, numbers in expected]
    assert [at for at, _ in found] == pytest.approx([at for at, _ in expected])
