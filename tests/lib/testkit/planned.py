"""A pipeline that follows plans and a seed, so that a test can compute its outcome."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal, TypeAlias

import attrs
import trio

from testkit.limits import LimitCheck
from trio_turnstile import (
    DISCARD,
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Limiter,
    Many,
    Processor,
    Producer,
    Retry,
    Skip,
    Throttle,
)

Item: TypeAlias = tuple[int, ...]


Fallback: TypeAlias = Literal["skip", "letter", "abort"]


class PlannedError(Exception):
    """An error that the plan asks for."""


@attrs.frozen
class StepPlan:
    """One step. The last step of a pipeline is its consumer."""

    limiter: Literal["none", "number", "trio", "own", "shared"]
    tokens: int
    window: int | None
    order: Literal["none", "all", "key"]
    batch: Batch | None
    fails: bool
    retries: int
    fallback: Fallback


def three_keys(item: Item) -> int:
    return item[0] % 3


def weigh(item: Item) -> float:
    return 1 + item[0] % 4


class PlannedPipeline:
    """A pipeline made from plans; it records what happens in it."""

    def __init__(self, plans: list[StepPlan], seed: int, items: int) -> None:
        self.plans = plans
        self.seed = seed
        self.items = items
        self.taken = 0
        self.shared = Limiter("shared", 2, throttle=Throttle(min=0))
        self.limiters = [self.limiter(plan) for plan in plans]
        self.checks = {
            id(limiter): LimitCheck(limiter)
            for limiter in self.limiters
            if isinstance(limiter, Limiter)
        }
        """The checks of limits that can move, by the identity of their limiters."""
        self.calls = Counter[tuple[int, Item]]()
        self.stored: list[Item] = []
        self.letters, self.dead = trio.open_memory_channel[ConcurrentError](10_000)
        self.sink: Any = self.letters
        """Where dead letters go."""

    def limiter(self, plan: StepPlan) -> Any:
        if plan.limiter == "shared":
            return self.shared
        if plan.limiter == "own":
            return Limiter("own", plan.tokens, throttle=Throttle(min=0))
        if plan.limiter == "trio":
            return trio.CapacityLimiter(plan.tokens)
        return plan.tokens if plan.limiter == "number" else None

    # ---- the course of an item, computed from the seed ----

    def chance(self, step: int, item: Item, what: str) -> random.Random:
        return random.Random(f"{self.seed} {step} {item} {what}")

    def failures(self, step: int, item: Item) -> int:
        """Return how often the item fails in the step before it succeeds."""
        if not self.plans[step].fails:
            return 0
        return self.chance(step, item, "fails").choice([0, 0, 0, 0, 1, 2, 4])

    def outcome(self, step: int, item: Item) -> tuple[str, list[Item]]:
        """Return the item's fate in the step, and what the step passes on."""
        plan = self.plans[step]
        if self.failures(step, item) > plan.retries:
            return ("diverted" if plan.fallback == "letter" else "failed"), []
        if step == len(self.plans) - 1:
            return "completed", []
        number = self.chance(step, item, "spreads").choice([None, None, None, -1, 0, 2, 3])
        if number is None:
            return "completed", [item]
        if number == -1:  # a member of a batch cannot be discarded alone
            return "discarded" if plan.batch is None else "completed", []
        return "completed", [(*item, part) for part in range(number)]

    def first_items(self) -> list[Item]:
        """Return the items that the first step received."""
        return [(number,) for number in range(self.taken)]

    def error(self, step: int, item: Item) -> Exception:
        """Return the error of a call that fails."""
        return PlannedError(step, item)

    def expected(self) -> list[Counter[str]]:
        """Return the counts of each step, if no item is cut off."""
        there = self.first_items()
        fates: list[Counter[str]] = []
        for step in range(len(self.plans)):
            outcomes = [self.outcome(step, item) for item in there]
            fates.append(Counter(fate for fate, _ in outcomes))
            there = [out for _, outs in outcomes for out in outs]
        return fates

    def doomed(self) -> bool:
        """Return whether an item that was taken aborts the run."""
        return any(
            plan.fallback == "abort" and fates["failed"]
            for plan, fates in zip(self.plans, self.expected(), strict=True)
        )

    # ---- the pipeline ----

    def source(self) -> Iterator[Item]:
        for number in range(self.items):
            self.taken += 1
            yield (number,)

    async def work(self, step: int, item: Item) -> Any:
        with self.around(step):
            await trio.sleep(self.chance(step, item, "takes").choice([0, 0, 0.1, 0.5, 2]))
        if self.fails_now(step, item):
            raise self.error(step, item)
        if step == len(self.plans) - 1:
            self.stored.append(item)
            return None
        fate, outs = self.outcome(step, item)
        if fate == "discarded":
            return DISCARD
        return item if outs == [item] else Many(outs)

    async def work_batch(self, step: int, items: list[Item]) -> Any:
        batch = self.plans[step].batch
        assert batch is not None
        assert batch.size is not None
        assert 1 <= len(items) <= batch.size
        assert len(items) == 1 or batch.weight is None or sum(map(weigh, items)) <= 6
        assert batch.key is None or len(set(map(three_keys, items))) == 1
        with self.around(step):
            await trio.sleep(self.chance(step, items[0], "takes").choice([0, 0, 0.1, 0.5, 2]))
        errors = {
            index: self.error(step, item)
            for index, item in enumerate(items)
            if self.fails_now(step, item)
        }
        done = [item for index, item in enumerate(items) if index not in errors]
        if step == len(self.plans) - 1:
            self.stored += done
            outs: list[Item] = []
        else:
            outs = [out for item in done for out in self.outcome(step, item)[1]]
        if errors:
            raise BatchError(errors, passed_on=outs)
        return outs[0] if len(outs) == 1 else Many(outs)

    def fails_now(self, step: int, item: Item) -> bool:
        self.calls[step, item] += 1
        return self.calls[step, item] <= self.failures(step, item)

    def around(self, step: int) -> AbstractContextManager[None]:
        """Return a context manager for a call, which checks the limit of the step."""
        check = self.checks.get(id(self.limiters[step]))
        return nullcontext() if check is None else check.around()

    def step(self, index: int) -> Any:
        plan = self.plans[index]
        kind: Any = Consumer if index == len(self.plans) - 1 else Processor
        fallback: dict[str, list[Any]] = {
            "skip": [Skip()],
            "letter": [DeadLetter(self.sink)],
            "abort": [],
        }
        options: dict[str, Any] = {
            "limiter": self.limiters[index],
            "window": plan.window,
            "on_error": [Retry(plan.retries, backoff=lambda n: n), *fallback[plan.fallback]],
            "name": str(index),
        }
        if plan.batch is not None:
            work: Any = partial(self.work_batch, index)
            return kind(work, batch=plan.batch, **options)
        return kind(
            partial(self.work, index),
            ordered=plan.order == "all",
            key=three_keys if plan.order == "key" else None,
            **options,
        )

    def pipeline(self) -> Any:
        joined: Any = Producer(self.source)
        for index in range(len(self.plans)):
            joined = joined | self.step(index)
        return joined
