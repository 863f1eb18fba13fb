"""What 10,000 limiters in one turnstile cost, in processor time and in memory.

Most of these figures are not ratios: they show the order of magnitude to expect.
"""

from __future__ import annotations

import tracemalloc
from functools import partial
from time import process_time

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Limiter, open_turnstile

from ._harness import Benchmark, Figure, Goal, Result

MANY = 10_000
SIGNALS = 2_000
SAMPLES = 3_600


def measure(rounds: int) -> Result:
    """Take the best of the rounds; memory hardly varies.

    Each sample of the busy limiter differs from the one before.
    """
    lives = min(trio.run(_lives) for _ in range(rounds))
    samples = min(trio.run(_samples) for _ in range(rounds))
    signals = min(_signal(MANY) / _signal(10) for _ in range(rounds))
    clock = partial(MockClock, autojump_threshold=0)
    idle, busy = (trio.run(_memory, each, clock=clock()) for each in (False, True))
    return Result(
        [
            Figure(f"{MANY:,} limiters made, used once, closed", "s", lives, goal=Goal(1)),
            Figure(f"a round of samples of {MANY:,} limiters", "ms", samples, goal=Goal(10)),
            Figure(f"a signal to one of {MANY:,} / of ten", "x", signals),
            Figure("two hours of samples, busy less idle", "kB", busy - idle, goal=Goal(90)),
        ]
    )


async def _lives() -> float:
    start = process_time()
    async with open_turnstile() as turnstile:
        for number in range(MANY):
            async with turnstile.limiter(f"host-{number}", 2):
                pass
    return process_time() - start


async def _samples() -> float:
    """Return how much longer a second with ten rounds takes than one without, per round."""
    with_rounds = await _second(0.1)
    return (with_rounds - await _second(1e6)) / 10 * 1000


async def _second(sample_every: float) -> float:
    async with open_turnstile(sample_every=sample_every) as turnstile:
        for number in range(MANY):
            turnstile.limiter(f"host-{number}", 2)
        await trio.sleep(0.15)  # the first round begins the history of each limiter
        start = process_time()
        await trio.sleep(1)
        return process_time() - start


def _signal(limiters: int) -> float:
    async def signals() -> float:
        async with open_turnstile(sample_every=1e6) as turnstile:
            made = [turnstile.limiter(f"host-{number}", 2) for number in range(limiters)]
            await wait_all_tasks_blocked()
            return await _send(made[0])

    return trio.run(signals)


async def _send(limiter: Limiter) -> float:
    start = process_time()
    for _ in range(SIGNALS):
        limiter.down()
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    return process_time() - start


async def _memory(busy: bool) -> float:
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("host", 2)
        await trio.sleep(1)
        tracemalloc.start()
        try:
            for number in range(SAMPLES):
                if busy and number % 2:
                    limiter.release_on_behalf_of("borrower")
                elif busy:
                    limiter.acquire_on_behalf_of_nowait("borrower")
                await trio.sleep(2)
            return tracemalloc.get_traced_memory()[0] / 1000
        finally:
            tracemalloc.stop()


BENCHMARKS = (Benchmark("many", f"{MANY:,} limiters in one turnstile", measure),)
