"""A long run with many faults: failures, cancellations and changed limits, with books checked."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from itertools import cycle
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    DISCARD,
    Aborted,
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Halt,
    Limiter,
    Many,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    RetryBudget,
    Skip,
    Throttle,
)
from trio_turnstile.testing import assert_conserved

pytestmark = pytest.mark.slow

ITEMS = 100_000
PART = 5_000
ENDS = ("end", "drain", "deadline", "end", "cancel")


class Soak:
    """A loop that runs one pipeline after another; each goes on where the last one stopped."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.first = Limiter("first", 8, throttle=Throttle(min=0))
        self.shared = Limiter("shared", 12, throttle=Throttle(min=0))
        self.next = 0
        self.checks = 0
        self.turns = cycle(ENDS)
        self.ends = Counter[str]()
        self.causes = set[type]()
        self.fates = Counter[str]()
        self.letters, self.dead = trio.open_memory_channel[ConcurrentError](ITEMS)

    def numbers(self) -> Any:
        for number in range(self.next, min(self.next + PART, ITEMS)):
            self.next = number + 1
            yield number

    async def parse(self, number: int) -> Any:
        if number % 4 == 0:
            await trio.sleep(self.random.choice((0.001, 0.01, 0.1)))
        match self.random.randrange(50):
            case 0:
                raise OSError(number)
            case 1:
                raise ValueError(number)
            case 2:
                return DISCARD
            case 3:
                return Many([number] * self.random.randrange(4))
        return number

    async def enrich(self, number: int) -> int:
        if self.random.random() < 0.01:
            raise KeyError(number)
        if number % 4 == 0:
            await trio.lowlevel.checkpoint()
        return number

    async def store(self, numbers: list[int]) -> None:
        await trio.sleep(self.random.choice((0.01, 0.1)))
        bad = [index for index in range(len(numbers)) if self.random.random() < 0.01]
        if bad:
            raise BatchError({index: OSError(numbers[index]) for index in bad})

    def middle(self) -> Any:
        """Return a step of a kind chosen at random."""
        kinds: list[dict[str, Any]] = [
            {"ordered": True},
            {"key": lambda number: number % 7},
            {"window": 30},
        ]
        return Processor(
            self.enrich, limiter=self.shared, on_error=[Skip()], **self.random.choice(kinds)
        )

    def pipeline(self) -> Any:
        budget = RetryBudget(retries=50, per_success=0.5, per_second=20)
        return (
            Producer(self.numbers)
            | Processor(
                self.parse,
                limiter=self.first,
                on_error=[
                    Retry(2, on=OSError, budget=budget),
                    DeadLetter(self.letters, on=ValueError),
                    Skip(),
                ],
            )
            | Processor(self.enrich, on_error=[Halt("soon", fail=150)])
            | self.middle()
            | Consumer(
                self.store,
                limiter=self.shared,
                batch=Batch(20, within=0.5),
                on_error=[Retry(3, backoff=lambda n: 0.1), Skip()],
            )
        )

    def check(self, run: PipelineRun) -> None:
        assert_conserved(run)
        self.checks += 1

    async def retune(self, run: PipelineRun) -> None:
        while True:
            await trio.sleep(self.random.uniform(0.1, 2))
            self.check(run)
            limiter = self.random.choice((self.first, self.shared))
            limiter.total_tokens = self.random.choice((0, 1, 4, 8, 16))
            await trio.sleep(0.1)
            limiter.total_tokens = max(2, limiter.total_tokens)

    async def part(self) -> PipelineRun:
        """Run one pipeline until it ends in whatever way."""
        run: PipelineRun
        end = next(self.turns)
        async with trio.open_nursery() as nursery:
            started = await nursery.start(partial(self.guarded, self.pipeline(), nursery))
            run = started
            nursery.start_soon(self.retune, run)
            if end != "end":
                await trio.sleep(self.random.uniform(0, 20))
                if end == "cancel":
                    run.cancel()
                else:
                    run.drain(trio.current_time() + 0.2 if end == "deadline" else None)
        self.ends[end] += 1
        return run

    async def guarded(
        self, pipeline: Any, nursery: trio.Nursery, task_status: trio.TaskStatus[PipelineRun]
    ) -> None:
        try:
            await pipeline.run(task_status=task_status)
        except Aborted as aborted:
            self.ends["halted"] += 1
            self.causes |= {type(error.__cause__) for error in aborted.exceptions}
        nursery.cancel_scope.cancel()

    async def run(self) -> None:
        while self.next < ITEMS:
            began = self.next
            run = await self.part()
            self.check(run)
            assert run.steps[0].received == self.next - began
            for step in run.steps:
                assert step.in_flight == 0
                assert step.cancelled == len(step.cut_off)
                for fate in ("completed", "discarded", "failed", "diverted", "cancelled"):
                    self.fates[fate] += getattr(step, fate)
            while self.dead.statistics().current_buffer_used:
                self.dead.receive_nowait()
                self.fates["letters"] += 1


@pytest.mark.slow
def test_books_balance_through_100_000_items_of_trouble() -> None:
    """No item is lost whatever happens, and the books balance at every check."""
    soak = Soak(seed=20_26)
    trio.run(soak.run, clock=MockClock(autojump_threshold=0))
    assert soak.next == ITEMS
    assert soak.fates["letters"] == soak.fates["diverted"] > 0
    assert min(soak.fates.values()) > 0
    assert set(ENDS) <= set(soak.ends)
    assert soak.causes <= {KeyError}
    assert soak.checks > 100
