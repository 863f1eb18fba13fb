"""A long run takes no more memory at its end than after its first third."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.soak import FACTOR
from trio_turnstile import (
    Batch,
    BatchError,
    Channels,
    Consumer,
    DeadLetter,
    Limiter,
    Log,
    Many,
    Overloaded,
    Processor,
    Producer,
    Retry,
    RetryBudget,
    Scalable,
    Skip,
    Throttle,
    Turnstile,
    amap,
    open_turnstile,
    run_phases,
)
from trio_turnstile.limits import AIMDLimit

pytestmark = pytest.mark.slow

TIMES = min(FACTOR, 20)

ALLOWED = 4.0
"""Bytes per item of growth that are allowed in the last two thirds: less than any object."""

SLACK = 130_000
"""Bytes of growth that are always allowed: a waiting worker takes 5,000 of them."""


class Meter:
    """A source of numbers that measures the memory after the first third and at the end.

    Before it measures, it waits until nothing is in hand.
    """

    def __init__(self, items: int) -> None:
        self.items = items * TIMES
        self.marks: list[int] = []

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self.items):
            if number in (self.items // 3, self.items - 1):
                await trio.sleep(60)
                gc.collect()
                self.marks.append(tracemalloc.get_traced_memory()[0])
            yield number

    def check(self) -> None:
        third, end = self.marks
        assert end - third < SLACK + ALLOWED * self.items * 2 / 3


class Troubled:
    """Functions that fail now and then, in ways that a seed determines."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        self.letters = 0

    async def step(self, number: int) -> Any:
        await trio.sleep(self.random.choice((0, 0, 0.01)))
        match self.random.randrange(40):
            case 0:
                raise Overloaded(self.random.choice((None, 0.05)))
            case 1 | 2:
                raise OSError(f"failure of {number}")
            case 3:
                return Many([number, number])
        return number

    async def batch(self, numbers: list[int]) -> None:
        await trio.sleep(0.01)
        if self.random.random() < 0.1:
            raise BatchError({0: OSError(numbers[0])})

    async def letter(self, _: object) -> None:
        await trio.lowlevel.checkpoint()
        self.letters += 1


def decided(limiter: Limiter) -> Limiter:
    """Return the limiter after as many decisions as it keeps."""
    for number in range(400):
        limiter.total_tokens = 7 + number % 2
    return limiter


def on_error() -> list[Any]:
    budget = RetryBudget(retries=50, per_success=0.5, per_second=20)
    return [Log(), Retry(1, backoff=lambda _: 0.01, budget=budget)]


async def through_steps(meter: Meter, turnstile: Turnstile) -> None:
    """Use keys, an order, batches, dead letters and an adaptive limit, with many errors."""
    troubled = Troubled()
    throttle = Throttle(min=0, hold=0)
    own = turnstile.limiter("own", 8, throttle=throttle, policy=AIMDLimit(8, minimum=1))
    decided(own)
    skip = [*on_error(), Skip()]
    letters = DeadLetter(troubled.letter)
    batch = Batch(5, within=0.1, key=lambda n: n % 3)
    await (
        Producer(meter)
        | Processor(troubled.step, limiter=own, window=16, key=lambda n: n, on_error=skip)
        | Processor(troubled.step, limiter=4, window=16, ordered=True, on_error=letters)
        | Consumer(troubled.batch, limiter=own, window=30, batch=batch, on_error=Skip())
    ).run(max_errors=20)
    assert troubled.letters


async def through_limiters(meter: Meter, turnstile: Turnstile) -> None:
    """Give each item a limiter, which is made in the turnstile, moved, and closed."""

    async def step(number: int) -> int:
        limiter = turnstile.limiter(f"of {number}", 2, throttle=Throttle(min=0, hold=0))
        async with limiter:
            limiter.down()
            await trio.sleep(0.01)
        limiter.total_tokens = 5
        limiter.close()
        return number

    async with amap(step, meter, limiter=8) as results:
        async for _ in results:
            pass


async def through_keys(meter: Meter, turnstile: Turnstile) -> None:
    """Give each item a key of a shared limiter, and refuse some items."""
    hosts = turnstile.shared("hosts", 8, each=2)

    async def step(number: int) -> int:
        await trio.sleep(0.01)
        if number % 7 == 0:
            raise Overloaded(retry_after=0.1)
        return number

    steps = Consumer(step, limiter=hosts.by(str), on_error=Skip())
    await (Producer(meter) | steps).run(max_errors=10)


class Troubles(Scalable):
    """An operation that fails now and then."""

    def __init__(self, number: int, troubled: Troubled) -> None:
        self.number = number
        self.troubled = troubled

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (f"op {self.number}",)

    async def work(self, channels: Channels) -> None:
        await self.troubled.step(self.number)

    async def cleanup(self, channels: Channels) -> None:
        await trio.sleep(0.01)
        if self.number % 4 == 0:
            raise OSError(self.number)


async def through_phases(meter: Meter, turnstile: Turnstile) -> None:
    """Run operations with retries, clean-ups that fail, and tokens for preparing."""
    troubled = Troubled()

    async def operations() -> AsyncIterator[Scalable]:
        async for number in meter:
            yield Troubles(number, troubled)

    limiter = decided(turnstile.limiter("work", 8, throttle=Throttle(min=0, hold=0)))
    await run_phases(
        operations(),
        limiter=limiter,
        prepare_limiter=4,
        window=16,
        on_error=[*on_error(), Skip()],
        max_errors=20,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "items"),
    [(through_steps, 3000), (through_limiters, 900), (through_keys, 3000), (through_phases, 3000)],
)
def test_the_memory_does_not_grow(run: Any, items: int, caplog: pytest.LogCaptureFixture) -> None:
    """The memory taken for an item, an error or a limiter is given back."""
    caplog.set_level("CRITICAL", logger="trio_turnstile")
    meter = Meter(items)

    async def main() -> None:
        async with open_turnstile(sample_every=3600) as turnstile:
            await run(meter, turnstile)

    tracemalloc.start()
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        tracemalloc.stop()
    meter.check()


@pytest.mark.slow
def test_a_turnstile_that_is_open_for_days_does_not_grow() -> None:
    """Samples, decisions and closed limiters are kept within bounds."""
    marks: list[int] = []
    hours = 9 * TIMES

    async def main() -> None:
        async with open_turnstile(sample_every=30) as turnstile:
            busy = turnstile.limiter("busy", 50, throttle=Throttle(min=0, hold=0))
            draw = random.Random(3)
            for hour in range(hours):
                for step in range(20):
                    other = turnstile.limiter(f"{hour} {step}", 3)
                    busy.total_tokens = draw.randrange(1, 50)
                    await trio.sleep(91)
                    busy.down()
                    await trio.sleep(89)
                    other.close()
                if hour in (hours // 3, hours - 1):
                    gc.collect()
                    marks.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        tracemalloc.stop()
    third, end = marks
    # In two thirds of the time there were many limiters, and none may leave an object behind.
    assert end - third < SLACK + ALLOWED * hours * 14
