"""``async with`` a `Limiter`, against the capacity limiters of trio and anyio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import trio

from trio_turnstile import Limiter

from ._harness import Contestant, Goal, Ratio, race

TIMES = 20_000
TASKS = 100
TOKENS = 10

Make: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


def ours() -> Limiter:
    return Limiter("bench", TOKENS)


def trios() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(TOKENS)


def anyios() -> AbstractAsyncContextManager[Any]:
    import anyio

    return anyio.CapacityLimiter(TOKENS)


async def alone(make: Make) -> None:
    """Let one task take a token and return it, again and again."""
    limiter = make()
    for _ in range(TIMES):
        async with limiter:
            pass


async def crowded(make: Make) -> None:
    """Let many tasks do the same, more than there are tokens."""
    limiter = make()

    async def task() -> None:
        for _ in range(TIMES // TASKS):
            async with limiter:
                pass

    async with trio.open_nursery() as nursery:
        for _ in range(TASKS):
            nursery.start_soon(task)


def _contestants(course: Callable[[Make], Awaitable[None]]) -> dict[str, Contestant]:
    return {
        "Limiter": Contestant(partial(course, ours)),
        "trio.CapacityLimiter": Contestant(partial(course, trios)),
        "anyio.CapacityLimiter": Contestant(partial(course, anyios), needs="anyio"),
    }


RATIOS = (
    Ratio("Limiter", "trio.CapacityLimiter", Goal(1.15)),
    Ratio("Limiter", "anyio.CapacityLimiter"),
)

BENCHMARKS = (
    race("limiter-alone", "async with, by one task", _contestants(alone), RATIOS),
    race(
        "limiter-crowded",
        f"async with, by {TASKS} tasks for {TOKENS} tokens",
        _contestants(crowded),
        RATIOS,
    ),
)
