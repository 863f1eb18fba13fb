"""Steps that are async generator functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import account, books, into, takes
from trio_turnstile import (
    Aborted,
    Batch,
    Consumer,
    Limiter,
    Processor,
    Producer,
    Retry,
    Skip,
    amap_list,
)
from trio_turnstile.testing import run_one


async def letters(word: str) -> AsyncIterator[str]:
    for letter in word:
        await trio.lowlevel.checkpoint()
        yield letter


class Counting:
    """A step that yields one number a second, and records how and where its generators ended."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.ends: list[str] = []
        self.tasks: set[trio.lowlevel.Task] = set()

    async def __call__(self, number: int) -> AsyncIterator[int]:
        self.tasks.add(trio.lowlevel.current_task())
        how = "broken"
        try:
            for part in range(number):
                await trio.sleep(1)
                yield part
            if self.failures:
                self.failures -= 1
                raise OSError
            how = "ended"
        except trio.Cancelled:
            how = "cancelled"
            raise
        finally:
            self.tasks.add(trio.lowlevel.current_task())
            self.ends.append(how)


class Speller:
    """A step with state and a method that yields."""

    async def spell(self, word: str, *, again: int = 1) -> AsyncIterator[str]:
        for letter in word * again:
            yield letter


@asynccontextmanager
async def opened() -> AsyncIterator[Callable[[str], AsyncIterator[str]]]:
    yield letters


@pytest.mark.parametrize(
    "function",
    [letters, Speller().spell, partial(Speller().spell, again=1), opened()],
    ids=["function", "method", "partial", "opened"],
)
async def test_what_is_yielded_is_passed_on_one_by_one(function: Any) -> None:
    """Any async generator function can be a step."""
    assert await run_one(Processor(function), "abc") == ["a", "b", "c"]


@pytest.mark.parametrize("limiter", [None, 1])
async def test_each_thing_is_an_item_of_the_next_step(limiter: int | None) -> None:
    """The next step may be fused or separate; a generator that yields nothing passes nothing on."""
    stored: list[str] = []
    report = await (
        Producer(["ab", "", "c"])
        | Processor(letters, ordered=True)
        | Consumer(into(stored), limiter=limiter)
    ).run()
    assert stored == ["a", "b", "c"]
    assert account(report) == {"letters": (3, 3, 0, 0, 0, 0), "store": (3, 3, 0, 0, 0, 0)}
    assert books(report, 0).passed_on == 3


async def test_a_batch_may_yield() -> None:
    """A generator may take a list."""

    async def pairs(numbers: list[int]) -> AsyncIterator[tuple[int, int]]:
        await trio.lowlevel.checkpoint()
        for one in numbers:
            for other in numbers:
                yield one, other

    async with (Producer([1, 2]) | Processor(pairs, batch=Batch(2))).open() as results:
        assert [pair async for pair in results] == [(1, 1), (1, 2), (2, 1), (2, 2)]


async def test_an_error_is_tried_again_from_the_beginning(autojump_clock: MockClock) -> None:
    """Nothing that a failed attempt yielded is passed on, so nothing is doubled."""
    counting = Counting(failures=1)
    policy = Retry(1, backoff=lambda failures: 10)
    assert await amap_list(counting, [3], on_error=[policy]) == [0, 1, 2]
    assert counting.ends == ["broken", "ended"]
    assert trio.current_time() == 16


async def test_an_error_without_a_policy_aborts() -> None:
    """The error is that of the item, whatever was yielded before it."""
    with pytest.raises(Aborted) as caught:
        await amap_list(Counting(failures=1), [0])
    assert [error.item for error in caught.value.exceptions] == [0]


async def test_a_timeout_ends_the_generator(autojump_clock: MockClock) -> None:
    """The timeout bounds each attempt, and the generator is cleaned up in its task."""
    counting = Counting()
    steps = Processor(counting, timeout=2.5, on_error=[Skip()])
    assert await run_one(steps, 9) == []
    assert counting.ends == ["cancelled"]
    assert len(counting.tasks) == 1


async def test_cancelling_the_run_ends_the_generator(autojump_clock: MockClock) -> None:
    """The item is cancelled, and no part of it was passed on."""
    counting = Counting()
    with trio.move_on_after(2.5):
        async with (Producer([9]) | Processor(counting)).open() as results:
            await anext(results)
    assert counting.ends == ["cancelled"]
    assert account(results.report())["Counting"] == (1, 0, 0, 0, 0, 1)


async def test_a_nursery_may_be_open_round_a_yield(autojump_clock: MockClock) -> None:
    """The whole generator is read in one task."""

    async def fetch(number: int) -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 5)
            yield number
            with trio.fail_after(9):
                yield number + 1

    assert await run_one(Processor(fetch), 1) == [1, 2]
    assert trio.current_time() == 5


async def test_no_token_is_held_while_there_is_no_room(autojump_clock: MockClock) -> None:
    """The token is given back when the generator has ended."""
    api = Limiter("api", 1)
    async with trio.open_nursery() as nursery:
        pipeline = (
            Producer(["abc"]) | Processor(letters, limiter=api) | Consumer(takes(9), window=1)
        )
        run = await nursery.start(pipeline.run)
        await trio.sleep(5)
        assert (api.borrowed_tokens, run.steps[0].in_flight) == (0, 1)
