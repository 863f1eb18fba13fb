"""How long items wait for each other, on a clock that moves only when all tasks wait.

Nothing here depends on the machine, so one round is enough. Times are compared with the
*bound*: all work divided by the number of tokens, as if no token was ever idle. Some are
idle towards the end, because the last slow item cannot be divided. Therefore the output
also gives the time *in order*, which is computed: each item begins as soon as there is a
token. No runner that takes items in the order in which they arrive can be faster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from heapq import heapreplace

import trio
from trio.testing import MockClock

from trio_turnstile import Consumer, Processor, Producer, Retry

from ._harness import Benchmark, Figure, Goal, Result

ITEMS = range(10_000)
FEW_TOKENS = 10
MANY_TOKENS = 50
WIDE = 2_000
"""A window with room for all items that arrive while a slow item holds up the order."""


def _seconds(item: int) -> float:
    """Every hundredth item is slow, and so is the last."""
    return 2.0 if item % 100 == 99 else 0.05


async def work(item: int) -> int:
    await trio.sleep(_seconds(item))
    return item


async def ours(tokens: int) -> None:
    await (Producer(ITEMS) | Consumer(work, limiter=tokens)).run()


async def ours_ordered(tokens: int, window: int | None) -> None:
    came: list[int] = []

    async def keep(item: int) -> None:
        came.append(item)

    step = Processor(work, limiter=tokens, ordered=True, window=window)
    await (Producer(ITEMS) | step | Consumer(keep)).run()
    assert came == list(ITEMS)


async def gather_in_chunks(tokens: int) -> None:
    """Run as many items as there are tokens, and the next chunk when all of them are done."""
    results: list[int] = []

    async def put(chunk: list[int], index: int, item: int) -> None:
        chunk[index] = await work(item)

    for begin in ITEMS[::tokens]:
        items = ITEMS[begin : begin + tokens]
        chunk = [0] * len(items)
        async with trio.open_nursery() as nursery:
            for index, item in enumerate(items):
                nursery.start_soon(put, chunk, index, item)
        results += chunk
    assert results == list(ITEMS)


def _in_order(tokens: int) -> float:
    free_at = [0.0] * tokens
    for item in ITEMS:
        heapreplace(free_at, free_at[0] + _seconds(item))
    return max(free_at)


def measure_latency(_rounds: int) -> Result:
    """Return the times as multiples of the bound."""
    return Result([*_latencies(FEW_TOKENS, Goal(1.05)), *_latencies(MANY_TOKENS, None)])


def _latencies(tokens: int, goal: Goal | None) -> list[Figure]:
    bound = sum(map(_seconds, ITEMS)) / tokens
    seconds = {
        "ours": _virtual(ours, tokens),
        "in order": _in_order(tokens),
        f"ours, ordered, window {WIDE:,}": _virtual(ours_ordered, tokens, WIDE),
        "ours, ordered, default window": _virtual(ours_ordered, tokens, None),
        "gather in chunks": _virtual(gather_in_chunks, tokens),
    }
    return [
        Figure(f"{tokens} tokens: {who}", "x", time / bound, goal=goal if who == "ours" else None)
        for who, time in seconds.items()
    ]


# ---- retries ----

TO_RETRY = range(40)
TIMES = 2
BACK_OFF = 1.0


class Flaky:
    """Fails twice with each item; each attempt takes a tenth of a second."""

    def __init__(self) -> None:
        self._attempts = Counter[int]()

    async def __call__(self, item: int) -> None:
        self._attempts[item] += 1
        await trio.sleep(0.1)
        if self._attempts[item] <= TIMES:
            raise OSError(f"{item} failed")


async def retry_outside(tokens: int) -> None:
    policy = Retry(TIMES, on=OSError, backoff=lambda _: BACK_OFF)
    await (Producer(TO_RETRY) | Consumer(Flaky(), limiter=tokens, on_error=[policy])).run()


async def retry_inside(tokens: int) -> None:
    """Retry by hand, as a decorator does: the token is held during the back-off."""
    limiter = trio.CapacityLimiter(tokens)
    flaky = Flaky()

    async def task(item: int) -> None:
        async with limiter:
            for _ in range(TIMES):
                try:
                    return await flaky(item)
                except OSError:
                    await trio.sleep(BACK_OFF)
            await flaky(item)

    async with trio.open_nursery() as nursery:
        for item in TO_RETRY:
            nursery.start_soon(task, item)


def measure_retries(_rounds: int) -> Result:
    """Return the virtual times in seconds."""
    tokens = 5
    return Result(
        [
            Figure("ours: no token held", "s", _virtual(retry_outside, tokens), goal=Goal(3.1)),
            Figure("by hand: token held", "s", _virtual(retry_inside, tokens)),
        ]
    )


def _virtual(run: Callable[..., Awaitable[None]], *args: object) -> float:
    """Return how long a run takes on a virtual clock of its own, in seconds."""
    return trio.run(_time, partial(run, *args), clock=MockClock(autojump_threshold=0))


async def _time(run: Callable[[], Awaitable[None]]) -> float:
    start = trio.current_time()
    await run()
    return trio.current_time() - start


BENCHMARKS = (
    Benchmark(
        "latency",
        f"{len(ITEMS):,} items of 50 ms, every hundredth of 2 s, over the bound",
        measure_latency,
    ),
    Benchmark(
        "retries", f"{len(TO_RETRY)} items that fail twice, {BACK_OFF:g} s apart", measure_retries
    ),
)
