"""The cost of a policy for tasks that take tokens: a `KneeLimit` against no policy.

Both limiters are in a turnstile and keep the same limit, so that only the sampling and
the decisions differ. The work does nothing, which is the worst case: compared with a call that
waits for a service, the cost is small.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import trio

from trio_turnstile import Consumer, Limiter, Producer, open_turnstile
from trio_turnstile.limits import KneeLimit, LimitPolicy

from ._harness import Contestant, Goal, Ratio, race
from .pipelines import ITEMS, work

TIMES = 20_000
TASKS = 100
TOKENS = 10

Course: TypeAlias = Callable[[LimitPolicy | None], Awaitable[None]]


async def alone(policy: LimitPolicy | None) -> None:
    """Let one task take a token and return it, many times."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("bench", TOKENS, policy=policy)
        await _take(limiter, TIMES)


async def crowded(policy: LimitPolicy | None) -> None:
    """Let more tasks than there are tokens do the same."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("bench", TOKENS, policy=policy)
        async with trio.open_nursery() as nursery:
            for _ in range(TASKS):
                nursery.start_soon(_take, limiter, TIMES // TASKS)


async def _take(limiter: Limiter, times: int) -> None:
    for _ in range(times):
        async with limiter:
            pass


async def stage(policy: LimitPolicy | None) -> None:
    """Run a pipeline of one step."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("bench", TOKENS, policy=policy)
        await (Producer(ITEMS) | Consumer(work, limiter=limiter)).run()


async def with_knee(course: Course) -> None:
    await course(KneeLimit(TOKENS, minimum=TOKENS, maximum=TOKENS))


BENCHMARKS = tuple(
    race(
        f"policy-{course.__name__}",
        what,
        {
            "with KneeLimit": Contestant(partial(with_knee, course)),
            "without": Contestant(partial(course, None)),
        },
        (Ratio("with KneeLimit", "without", Goal(1.3)),),
    )
    for course, what in (
        (alone, "async with, by one task"),
        (crowded, f"async with, by {TASKS} tasks for {TOKENS} tokens"),
        (stage, f"one step, {TOKENS} tokens"),
    )
)
