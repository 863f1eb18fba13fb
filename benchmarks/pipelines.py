"""Pipelines against hand-written loops and other libraries, on items that need no work.

A step with tokens has one checkpoint, like any function that waits for something; the
rest of the time is the cost of the runner. All contestants get the same numbers, and
those that run on asyncio do the same work there.

If a library insists that its results are read, they are iterated over and dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from importlib import import_module

import trio

from trio_turnstile import Consumer, Pipeline, Processor, Producer

from ._by_hand import (
    bare_pool,
    chain_of_channels,
    limiter_then_start,
    nowait_then_start,
    semaphore_then_start,
)
from ._harness import Contestant, Goal, Ratio, race

ITEMS = range(10_000)
AT_ONCE = 10


async def work(item: int) -> int:
    await trio.lowlevel.checkpoint()
    return item


async def work_on_asyncio(item: int) -> int:
    await asyncio.sleep(0)
    return item


async def nothing(item: int) -> int:
    return item


# ---- ours ----

ONE_STAGE = Producer(ITEMS) | Consumer(work, limiter=AT_ONCE)
THREE_FUSED = (
    Producer(ITEMS) | Processor(work, limiter=AT_ONCE) | Processor(nothing) | Consumer(nothing)
)
THREE_STAGES = (
    Producer(ITEMS)
    | Processor(work, limiter=AT_ONCE)
    | Processor(work, limiter=AT_ONCE)
    | Consumer(work, limiter=AT_ONCE)
)


async def ours(pipeline: Pipeline) -> None:
    report = await pipeline.run()
    assert report.steps[-1].completed == len(ITEMS)


async def our_results() -> None:
    async with (Producer(ITEMS) | Processor(work, limiter=AT_ONCE)).open() as results:
        async for _ in results:
            pass


# ---- asyncio by hand ----


async def group_and_semaphore() -> None:
    """Take a token for each item, then start a task."""
    tokens = asyncio.Semaphore(AT_ONCE)

    async def task(item: int) -> None:
        try:
            await work_on_asyncio(item)
        finally:
            tokens.release()

    async with asyncio.TaskGroup() as group:
        for item in ITEMS:
            await tokens.acquire()
            group.create_task(task(item))


async def group_of_all() -> None:
    """Start a task for each item at once, which then waits for a token, as most people do."""
    tokens = asyncio.Semaphore(AT_ONCE)

    async def task(item: int) -> None:
        async with tokens:
            await work_on_asyncio(item)

    async with asyncio.TaskGroup() as group:
        for item in ITEMS:
            group.create_task(task(item))


# ---- peers ----


async def aiometers_run() -> None:
    import aiometer

    await aiometer.run_on_each(work, ITEMS, max_at_once=AT_ONCE)


async def aiometers_amap() -> None:
    import aiometer

    async with aiometer.amap(work, ITEMS, max_at_once=AT_ONCE) as results:
        async for _ in results:
            pass


async def anyios_amap() -> None:
    """Run all items at once, since it has no limit."""
    import anyio

    await anyio.amap(work, ITEMS)


async def aiostreams() -> None:
    stream = import_module("aiostream.stream")
    items = stream.iterate(ITEMS)
    await stream.map(items, work_on_asyncio, ordered=False, task_limit=AT_ONCE)


async def pypelns() -> None:
    async def items() -> AsyncIterator[int]:
        for item in ITEMS:  # a plain iterable would be read in a thread, which costs more
            yield item

    task = import_module("pypeln.task")
    async for _ in task.map(work_on_asyncio, items(), workers=AT_ONCE, maxsize=AT_ONCE):
        pass


# ---- the races ----

ONE = {
    "one stage": Contestant(partial(ours, ONE_STAGE)),
    "results": Contestant(our_results),
    "bare pool": Contestant(partial(bare_pool, work, ITEMS, AT_ONCE)),
    "Semaphore, start_soon": Contestant(partial(semaphore_then_start, work, ITEMS, AT_ONCE)),
    "acquire_nowait, start_soon": Contestant(partial(nowait_then_start, work, ITEMS, AT_ONCE)),
    "CapacityLimiter, start_soon": Contestant(partial(limiter_then_start, work, ITEMS, AT_ONCE)),
    "aiometer.run_on_each": Contestant(aiometers_run, needs="aiometer"),
    "aiometer.amap": Contestant(aiometers_amap, needs="aiometer"),
    "anyio.amap": Contestant(anyios_amap, needs="anyio:amap"),
    "TaskGroup, Semaphore": Contestant(group_and_semaphore, on_asyncio=True),
    "TaskGroup of all": Contestant(group_of_all, on_asyncio=True),
    "aiostream": Contestant(aiostreams, needs="aiostream", on_asyncio=True),
    "pypeln": Contestant(pypelns, needs="pypeln", on_asyncio=True),
}

AGAINST_ONE = (
    Ratio("one stage", "bare pool", Goal(2.2)),
    Ratio("one stage", "Semaphore, start_soon", Goal(1 / 3)),
    Ratio("one stage", "acquire_nowait, start_soon"),
    Ratio("one stage", "CapacityLimiter, start_soon", Goal(1 / 3)),
    Ratio("one stage", "aiometer.run_on_each", Goal(1 / 5)),
    Ratio("one stage", "aiometer.amap", Goal(1 / 5)),
    Ratio("one stage", "anyio.amap"),
    Ratio("one stage", "TaskGroup, Semaphore", Goal(1, less=True)),
    Ratio("one stage", "TaskGroup of all", Goal(1, less=True)),
    Ratio("one stage", "aiostream", Goal(1, less=True)),
    Ratio("one stage", "pypeln", Goal(1, less=True)),
    Ratio("results", "aiometer.amap"),
    Ratio("results", "aiostream"),
    Ratio("results", "pypeln"),
)

FUSED = {
    "three fused": Contestant(partial(ours, THREE_FUSED)),
    "one stage": ONE["one stage"],
}

THREE = {
    "three stages": Contestant(partial(ours, THREE_STAGES)),
    "chain of channels": Contestant(partial(chain_of_channels, work, ITEMS, AT_ONCE)),
}

BENCHMARKS = (
    race("pipeline", f"one stage on no-ops, {AT_ONCE} at a time", ONE, AGAINST_ONE),
    race(
        "pipeline-fused",
        "three steps in one task",
        FUSED,
        [Ratio("three fused", "one stage", Goal(1.35))],
    ),
    race(
        "pipeline-stages",
        f"three stages, {AT_ONCE} at a time in each",
        THREE,
        [Ratio("three stages", "chain of channels", Goal(1.2))],
    ),
)
