"""Sources, functions and counts for tests of pipelines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import trio

from trio_turnstile import Pipeline, PipelineReport, PipelineRun, StepReport
from trio_turnstile.testing import assert_conserved

T = TypeVar("T")

Account = dict[str, tuple[int, int, int, int, int, int]]


def account(run: PipelineReport | PipelineRun) -> Account:
    """Assert that the books balance; return the counts of each step by its name.

    These are received, completed, discarded, failed, diverted and cancelled.
    """
    assert_conserved(run)
    return {
        step.name: (
            step.received,
            step.completed,
            step.discarded,
            step.failed,
            step.diverted,
            step.cancelled,
        )
        for step in run.steps
    }


def books(run: PipelineReport | PipelineRun, step: int = -1) -> StepReport:
    """Assert that the books balance; return the report of one step, by default the last."""
    assert_conserved(run)
    return run.steps[step]


async def start(nursery: trio.Nursery, pipeline: Pipeline) -> PipelineRun:
    """Start a pipeline in the nursery and return its run."""
    run: PipelineRun = await nursery.start(pipeline.run)
    return run


# ---- sources ----


class CountedSource:
    """Gives numbers from 0, and counts how many were taken."""

    def __init__(self, items: int = 1000) -> None:
        self.items = items
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.items):
            self.taken += 1
            yield number


async def slowly(*items: T, every: float = 1) -> AsyncIterator[T]:
    """Yield the items, one every ``every`` seconds."""
    for item in items:
        await trio.sleep(every)
        yield item


# ---- functions of steps ----


async def unchanged(item: T) -> T:
    """Return the item."""
    await trio.lowlevel.checkpoint()
    return item


async def add_one(number: int) -> int:
    """Return the next number."""
    await trio.lowlevel.checkpoint()
    return number + 1


def takes(seconds: float) -> Callable[[Any], Awaitable[Any]]:
    """Return a function that returns its item after some seconds."""

    async def work(item: Any) -> Any:
        await trio.sleep(seconds)
        return item

    return work


def into(basket: list[Any], *, seconds: float = 0) -> Callable[[Any], Awaitable[None]]:
    """Return a function that puts its item into the basket after some seconds."""

    async def store(item: Any) -> None:
        await trio.sleep(seconds)
        basket.append(item)

    return store


class Gauge:
    """Returns its item after some seconds; counts its calls, and how many run at once."""

    def __init__(self, seconds: float = 1) -> None:
        self.seconds = seconds
        self.running = self.most = self.calls = 0

    async def __call__(self, item: Any) -> Any:
        self.running += 1
        self.calls += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.running -= 1
        return item
