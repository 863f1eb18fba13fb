"""Pipelines of every shape, each against the leanest hand-written code that does the same.

The functions do one checkpoint (`work`) or nothing (`cheap`), so the figures compare the
cost of the runner. A second figure is the cost of one step of a shape relative to a
pipeline of one step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import trio

from trio_turnstile import (
    DISCARD,
    Batch,
    Consumer,
    Limiter,
    Many,
    Pipeline,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    open_turnstile,
)
from trio_turnstile.limits import KneeLimit

from . import _shapes_by_hand as by_hand
from ._by_hand import bare_pool
from ._harness import Benchmark, Contestant, Figure, Goal, Ratio, Result, race
from .pipelines import nothing as cheap
from .pipelines import work

ITEMS = range(10_000)
PAGE = 100
ONE = "10"
LEANEST = Goal(1.5)
PER_STEP = Goal(3.0)
FAST = 1e9


@attrs.frozen
class Shape:
    """A pipeline, and its hand-written twin."""

    ours: Callable[[], Awaitable[object]]
    twin: Callable[[], Awaitable[object]]
    steps: int = 1


def run(make: Callable[[], Pipeline]) -> Callable[[], Awaitable[object]]:
    async def one_run() -> None:
        report = await make().run()
        assert report.steps[0].completed
        assert not report.steps[-1].failed

    return one_run


def widths(*stages: tuple[Callable[[int], Awaitable[int]], int | None]) -> Shape:
    """Return a chain of steps, each with its function and its limit."""
    *others, (last, tokens) = stages

    def make() -> Pipeline:
        producer: Any = Producer(ITEMS)
        for function, limiter in others:
            producer |= Processor(function, limiter=limiter)
        return producer | Consumer(last, limiter=tokens)

    by_hands = [(function, workers or by_hand.BUFFER) for function, workers in stages]
    if len(stages) == 1:
        return Shape(run(make), partial(bare_pool, last, ITEMS, tokens or by_hand.BUFFER))
    return Shape(run(make), partial(by_hand.chain, ITEMS, *by_hands), len(stages))


# ---- functions ----


async def both(item: int) -> None:
    await work(await cheap(item))


async def work_on_all(items: list[int]) -> None:
    await trio.lowlevel.checkpoint()


async def every_other(item: int) -> Any:
    await trio.lowlevel.checkpoint()
    return DISCARD if item % 2 else item


async def take_every_other(item: int) -> None:
    result = await every_other(item)
    if result is not DISCARD:
        await cheap(result)


async def two(item: int) -> Many[int]:
    await trio.lowlevel.checkpoint()
    return Many((item, item))


async def take_two(item: int) -> None:
    await trio.lowlevel.checkpoint()
    for each in (item, item):
        await cheap(each)


class Flaky:
    """Every tenth item fails once."""

    def __init__(self) -> None:
        self._failed: set[int] = set()

    async def __call__(self, item: int) -> None:
        await trio.lowlevel.checkpoint()
        if item % 10 == 0 and item not in self._failed:
            self._failed.add(item)
            raise ValueError(item)


async def try_again(flaky: Flaky, item: int) -> None:
    for _ in range(2):
        try:
            return await flaky(item)
        except ValueError:
            await trio.lowlevel.checkpoint()
    return None


def key(item: int) -> int:
    return item % 100


async def page(cursor: int) -> tuple[range, int | None]:
    await trio.lowlevel.checkpoint()
    following = cursor + PAGE
    return ITEMS[cursor:following], following if following < len(ITEMS) else None


async def items_of_pages() -> AsyncIterator[int]:
    cursor: int | None = 0
    while cursor is not None:
        items, cursor = await page(cursor)
        for item in items:
            yield item


async def numbers(items: range = ITEMS) -> AsyncIterator[int]:
    for item in items:
        await trio.lowlevel.checkpoint()
        yield item


HALVES = (ITEMS[: len(ITEMS) // 2], ITEMS[len(ITEMS) // 2 :])


# ---- runs that are more than a pipeline ----


async def with_feeder(consume: Callable[[Any], Awaitable[object]]) -> None:
    """Let ``consume`` take items from a channel that a task fills."""
    send, receive = trio.open_memory_channel[int](by_hand.BUFFER)

    async def feed() -> None:
        with send:
            for item in ITEMS:
                await send.send(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        await consume(receive)


async def from_our_channel(source: Any) -> None:
    await (Producer(source) | Consumer(work, limiter=10)).run()


async def one_for_two() -> None:
    shared = Limiter("shared", 10)
    await (Producer(ITEMS) | Processor(work, limiter=shared) | Consumer(work, limiter=shared)).run()


async def with_knee() -> None:
    async with open_turnstile() as turnstile:
        policy = KneeLimit(10, minimum=10, maximum=10)
        limiter = turnstile.limiter("bench", 10, policy=policy)
        await (Producer(ITEMS) | Consumer(work, limiter=limiter)).run()


async def our_results() -> None:
    async with (Producer(ITEMS) | Processor(work, limiter=10)).open() as results:
        async for _ in results:
            pass


def at_a_rate() -> Pipeline:
    rate = RateLimiter(FAST, burst=1000)
    return Producer(ITEMS) | Consumer(work, limiter=10, rate=rate)


def with_retries() -> Pipeline:
    again = Retry(1, backoff=lambda _: 0.0)
    return Producer(ITEMS) | Consumer(Flaky(), limiter=10, on_error=[again])


async def retries_by_hand() -> None:
    await bare_pool(partial(try_again, Flaky()), ITEMS, 10)


TEN = partial(bare_pool, work, ITEMS, 10)

SHAPES = {
    ONE: widths((work, 10)),
    "cheap|10": Shape(
        run(lambda: Producer(ITEMS) | Processor(cheap) | Consumer(work, limiter=10)),
        partial(bare_pool, both, ITEMS, 10),
        2,
    ),
    "work|10": widths((work, None), (work, 10)),
    "100|10": widths((work, 100), (work, 10)),
    "10|1": widths((work, 10), (work, 1)),
    "1|10": widths((work, 1), (work, 10)),
    "cheap 10|cheap 10": widths((cheap, 10), (cheap, 10)),
    "10|10|10": widths((work, 10), (work, 10), (work, 10)),
    "ordered": Shape(
        run(lambda: Producer(ITEMS) | Processor(work, limiter=10, ordered=True) | Consumer(cheap)),
        partial(by_hand.in_order, work, cheap, ITEMS, 10),
        2,
    ),
    "keys": Shape(
        run(lambda: Producer(ITEMS) | Consumer(work, limiter=10, key=key)),
        partial(by_hand.by_key, work, key, ITEMS, 10),
    ),
    "batches": Shape(
        run(lambda: Producer(ITEMS) | Consumer(work_on_all, batch=Batch(10), limiter=10)),
        partial(by_hand.in_batches, work_on_all, ITEMS, 10, 10),
    ),
    "pages": Shape(
        run(lambda: Producer.pages(page, 0) | Consumer(work, limiter=10)),
        lambda: by_hand.from_async(work, [items_of_pages()], 10),
    ),
    "discards": Shape(
        run(lambda: Producer(ITEMS) | Processor(every_other, limiter=10) | Consumer(cheap)),
        partial(bare_pool, take_every_other, ITEMS, 10),
        2,
    ),
    "Many": Shape(
        run(lambda: Producer(ITEMS) | Processor(two, limiter=10) | Consumer(cheap)),
        partial(bare_pool, take_two, ITEMS, 10),
        3,
    ),
    "retries": Shape(run(with_retries), retries_by_hand),
    "async source": Shape(
        run(lambda: Producer(numbers) | Consumer(work, limiter=10)),
        lambda: by_hand.from_async(work, [numbers()], 10),
    ),
    "channel": Shape(
        partial(with_feeder, from_our_channel),
        partial(with_feeder, partial(by_hand.from_channel, work, at_once=10)),
    ),
    "merged": Shape(
        run(
            lambda: (
                Producer.merge(*(Producer(partial(numbers, half)) for half in HALVES))
                | Consumer(work, limiter=10)
            )
        ),
        lambda: by_hand.from_async(work, [numbers(half) for half in HALVES], 10),
    ),
    "shared limiter": Shape(one_for_two, partial(by_hand.with_limiter, work, ITEMS, 2, 10), 2),
    "rate": Shape(run(at_a_rate), partial(by_hand.at_a_rate, work, ITEMS, FAST, 1000, 10)),
    "KneeLimit": Shape(with_knee, TEN),
    "results": Shape(our_results, partial(by_hand.results, work, ITEMS, 10)),
}


def measure(rounds: int) -> Result:
    """Race the shapes against their twins; then compare their steps with a one-step pipeline."""
    contestants = {name: Contestant(shape.ours) for name, shape in SHAPES.items()}
    contestants |= {f"{name}, by hand": Contestant(shape.twin) for name, shape in SHAPES.items()}
    ratios = [Ratio(name, f"{name}, by hand", LEANEST) for name in SHAPES]
    raced = race("", "", contestants, ratios).measure(rounds)
    best = {who: min(seconds) for who, seconds in raced.seconds.items()}
    steps = [
        Figure(f"{name}, a step / {ONE}", "x", best[name] / shape.steps / best[ONE], goal=PER_STEP)
        for name, shape in SHAPES.items()
    ]
    return Result([*raced.figures, *steps], raced.seconds)


BENCHMARKS = (Benchmark("shapes", "pipelines of every shape", measure),)
