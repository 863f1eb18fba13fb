"""What holds of any pipeline, whatever it is made of and whatever befalls it.

Hypothesis makes up a pipeline and what happens to it while it runs. What each step
does to each item follows from a seed, so the whole run can be reckoned beforehand.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, TypeAlias

import attrs
import pytest
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_turnstile import (
    DISCARD,
    Aborted,
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Limiter,
    Many,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    Skip,
    StepReport,
    Throttle,
)
from trio_turnstile.testing import assert_conserved

Item: TypeAlias = tuple[int, ...]
Fallback: TypeAlias = Literal["skip", "letter", "abort"]


class Planned(Exception):
    """An error that was to happen."""


@attrs.frozen
class Plan:
    """One step; the last one of a pipeline is its consumer."""

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


batches = st.builds(
    lambda size, within, heavy, keyed: Batch(
        size,
        within=within,
        weight=weigh if heavy else None,
        **({"max_weight": 6.0} if heavy else {}),
        key=three_keys if keyed else None,
    ),
    st.integers(1, 4),
    st.none() | st.just(0.7),
    st.booleans(),
    st.booleans(),
)
plans = st.builds(
    Plan,
    limiter=st.sampled_from(["none", "number", "trio", "own", "shared"]),
    tokens=st.integers(1, 4),
    window=st.none() | st.integers(4, 8),
    order=st.sampled_from(["none", "none", "all", "key"]),
    batch=st.none(),
    fails=st.booleans(),
    retries=st.integers(0, 3),
    fallback=st.sampled_from(["skip", "skip", "letter", "letter", "abort"]),
)
consumers = plans | st.builds(
    lambda plan, batch: attrs.evolve(plan, order="none", batch=batch), plans, batches
)
happenings = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.sampled_from(["retune", "retune", "pause", "drain", "deadline", "cancel"]),
        st.integers(1, 6),
    ),
    max_size=4,
)


class World:
    """A pipeline made after plans, and what was seen of it."""

    def __init__(self, plans: list[Plan], seed: int, items: int) -> None:
        self.plans = plans
        self.seed = seed
        self.items = items
        self.taken = 0
        self.shared = Limiter("shared", 2, throttle=Throttle(min=0))
        self.limiters = [self.limiter(plan) for plan in plans]
        self.running = Counter[int]()
        self.before: dict[int, tuple[float, float]] = {}
        self.calls = Counter[tuple[int, Item]]()
        self.stored: list[Item] = []
        self.letters, self.dead = trio.open_memory_channel[ConcurrentError](10_000)

    def limiter(self, plan: Plan) -> Any:
        if plan.limiter == "shared":
            return self.shared
        if plan.limiter == "own":
            return Limiter("own", plan.tokens, throttle=Throttle(min=0))
        if plan.limiter == "trio":
            return trio.CapacityLimiter(plan.tokens)
        return plan.tokens if plan.limiter == "number" else None

    # ---- what is to become of an item, reckoned from the seed ----

    def chance(self, step: int, item: Item, what: str) -> random.Random:
        return random.Random(f"{self.seed} {step} {item} {what}")

    def failures(self, step: int, item: Item) -> int:
        """How often the item fails in the step before it succeeds."""
        if not self.plans[step].fails:
            return 0
        return self.chance(step, item, "fails").choice([0, 0, 0, 0, 1, 2, 4])

    def outcome(self, step: int, item: Item) -> tuple[str, list[Item]]:
        """The item's fate in the step, and what is passed on."""
        plan = self.plans[step]
        if self.failures(step, item) > plan.retries:
            return ("diverted" if plan.fallback == "letter" else "failed"), []
        if step == len(self.plans) - 1:
            return "completed", []
        number = self.chance(step, item, "spreads").choice([None, None, None, -1, 0, 2, 3])
        if number is None:
            return "completed", [item]
        if number == -1:
            return "discarded", []
        return "completed", [(*item, part) for part in range(number)]

    def reckon(self) -> list[Counter[str]]:
        """Count the fates of what was taken, step by step, if nothing is cut off."""
        there = [(number,) for number in range(self.taken)]
        fates: list[Counter[str]] = []
        for step in range(len(self.plans)):
            outcomes = [self.outcome(step, item) for item in there]
            fates.append(Counter(fate for fate, _ in outcomes))
            there = [out for _, outs in outcomes for out in outs]
        return fates

    def doomed(self) -> bool:
        """Whether an item that was taken has the run aborted."""
        return any(
            plan.fallback == "abort" and fates["failed"]
            for plan, fates in zip(self.plans, self.reckon(), strict=True)
        )

    # ---- the pipeline ----

    def source(self) -> Iterator[Item]:
        for number in range(self.items):
            self.taken += 1
            yield (number,)

    async def work(self, step: int, item: Item) -> Any:
        with self.measured(step):
            await trio.sleep(self.chance(step, item, "takes").choice([0, 0, 0.1, 0.5, 2]))
        if self.fails_now(step, item):
            raise Planned(step, item)
        if step == len(self.plans) - 1:
            self.stored.append(item)
            return None
        fate, outs = self.outcome(step, item)
        if fate == "discarded":
            return DISCARD
        return item if outs == [item] else Many(outs)

    async def work_batch(self, step: int, items: list[Item]) -> None:
        batch = self.plans[step].batch
        assert batch is not None
        assert batch.size is not None
        assert 1 <= len(items) <= batch.size
        assert len(items) == 1 or batch.weight is None or sum(map(weigh, items)) <= 6
        assert batch.key is None or len(set(map(three_keys, items))) == 1
        with self.measured(step):
            await trio.sleep(self.chance(step, items[0], "takes").choice([0, 0, 0.1, 0.5, 2]))
        errors = {
            index: Planned(step, item)
            for index, item in enumerate(items)
            if self.fails_now(step, item)
        }
        self.stored += [item for index, item in enumerate(items) if index not in errors]
        if errors:
            raise BatchError(errors)

    def fails_now(self, step: int, item: Item) -> bool:
        self.calls[step, item] += 1
        return self.calls[step, item] <= self.failures(step, item)

    def measured(self, step: int) -> Any:
        limiter = self.limiters[step]
        return Running(self, limiter) if isinstance(limiter, Limiter) else Running(self, None)

    def retune(self, limiter: Limiter, tokens: int) -> None:
        # Who got a token in this instant may have begun when the limit was higher.
        now, most = trio.current_time(), limiter.total_tokens
        at, before = self.before.get(id(limiter), (-1, 0))
        self.before[id(limiter)] = (now, max(most, before) if at == now else most)
        limiter.total_tokens = tokens

    def step(self, index: int) -> Any:
        plan = self.plans[index]
        last = index == len(self.plans) - 1
        fallback = {"skip": [Skip()], "letter": [DeadLetter(self.letters)], "abort": []}
        options: dict[str, Any] = {
            "limiter": self.limiters[index],
            "window": plan.window,
            "on_error": [Retry(plan.retries, backoff=lambda n: n), *fallback[plan.fallback]],
            "name": str(index),
        }
        if plan.batch is not None:
            work: Any = partial(self.work_batch, index)
            return Consumer(work, batch=plan.batch, **options)
        kind: Any = Consumer if last else Processor
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


class Running:
    """Round a call: no more run at a time than there are tokens, just shrunk limits aside."""

    def __init__(self, world: World, limiter: Limiter | None) -> None:
        self.world = world
        self.limiter = limiter

    def __enter__(self) -> None:
        if self.limiter is None:
            return
        world, limiter = self.world, self.limiter
        world.running[id(limiter)] += 1
        at, before = world.before.get(id(limiter), (-1, 0))
        allowed = max(limiter.total_tokens, before if at == trio.current_time() else 0)
        assert world.running[id(limiter)] <= allowed

    def __exit__(self, *_: object) -> None:
        if self.limiter is not None:
            self.world.running[id(self.limiter)] -= 1


def audit(world: World, flow: PipelineRun) -> None:
    """What holds at every instant."""
    assert_conserved(flow)
    stages = flow.steps
    assert stages[0].received == world.taken
    for plan, stage in zip(world.plans, stages, strict=True):
        assert stage.in_flight >= 0
        assert plan.window is None or stage.in_flight <= plan.window


async def play(world: World, script: list[tuple[float, str, int]]) -> tuple[PipelineRun, bool, Any]:
    """Run the pipeline while the script is played; tell whether it was cut off, and its end."""
    started: list[PipelineRun] = []
    ended = trio.Event()
    cut = False
    aborted: Aborted | None = None

    class Status:
        def started(self, flow: Any = None) -> None:
            started.append(flow)

    async def run() -> None:
        nonlocal aborted
        status: Any = Status()
        try:
            await world.pipeline().run(task_status=status)
        except Aborted as error:
            aborted = error
        ended.set()

    async def auditor() -> None:
        while True:
            await trio.sleep(0.05)
            audit(world, started[0])

    async def director() -> None:
        nonlocal cut
        limiters = [limiter for limiter in world.limiters if isinstance(limiter, Limiter)]
        for delay, what, number in script:
            await trio.sleep(delay)
            if ended.is_set():
                break
            if what in ("retune", "pause") and limiters:
                limiter = limiters[number % len(limiters)]
                world.retune(limiter, number if what == "retune" else 0)
            elif what == "drain":
                started[0].drain()
            elif what == "deadline":
                cut = True
                started[0].drain(trio.current_time() + number / 3)
            elif what == "cancel":
                cut = True
                started[0].cancel()
        for limiter in limiters:
            if limiter.total_tokens == 0:
                world.retune(limiter, 1)

    async with trio.open_nursery() as nursery:
        with trio.fail_after(5000):
            async with trio.open_nursery() as inner:
                inner.start_soon(run)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(auditor)
                inner.start_soon(director)
        nursery.cancel_scope.cancel()
    return started[0], cut, aborted


def check_end(world: World, flow: PipelineRun, *, cut: bool, aborted: Aborted | None) -> None:
    """What holds when it has ended."""
    audit(world, flow)
    stages = flow.steps
    assert all(stage.in_flight == 0 for stage in stages)
    assert all(len(stage.cut_off) == stage.cancelled for stage in stages)
    if aborted is not None:
        check_abort(world, aborted)
        return
    if cut:
        return
    assert not world.doomed()
    reckoned = world.reckon()
    for stage, fates in zip(stages, reckoned, strict=True):
        assert fates_of(stage) == fates
    # Nothing is lost or doubled: each item is stored once, and worked on as often as it fails.
    assert len(world.stored) == len(set(world.stored)) == reckoned[-1]["completed"]
    for (step, item), calls in world.calls.items():
        retries = world.plans[step].retries
        assert calls == min(world.failures(step, item), retries) + 1
    diverted = sum(fates["diverted"] for fates in reckoned)
    assert world.dead.statistics().current_buffer_used == diverted


def fates_of(stage: StepReport) -> Counter[str]:
    names = ("completed", "discarded", "failed", "diverted", "cancelled")
    return Counter({name: count for name in names if (count := getattr(stage, name))})


def check_abort(world: World, aborted: Aborted) -> None:
    """The errors of the items that failed are raised, each once, and nothing beside them."""
    for error in aborted.exceptions:
        assert isinstance(error, ConcurrentError)
        assert isinstance(error.__cause__, Planned)
        step, item = error.__cause__.args
        assert (error.item, error.phase) == (item, str(step))
        assert world.plans[step].fallback == "abort"
        assert world.failures(step, item) > world.plans[step].retries == error.attempt - 1
    items = [error.__cause__.args for error in aborted.exceptions if error.__cause__]
    assert len(items) == len(set(items))
    assert set(aborted.exceptions) <= set(aborted.report.errors)


def check_order(world: World) -> None:
    """What was stored keeps the order, or that of each key, as the first step does."""
    if world.plans[0].order == "all":
        assert world.stored == sorted(world.stored)
    for key in range(3):
        mine = [item for item in world.stored if three_keys(item) == key]
        assert mine == sorted(mine)


PLAIN = Plan("none", 1, None, "none", None, fails=False, retries=0, fallback="skip")


@settings(max_examples=150, deadline=None)
@example(
    steps=[attrs.evolve(PLAIN, limiter="own"), PLAIN],
    consumer=attrs.evolve(PLAIN, limiter="number"),
    script=[(1.0, "retune", 2), (0.0, "retune", 1)],
    seed=0,
    items=4,
)
@given(
    steps=st.lists(plans, max_size=3),
    consumer=consumers,
    script=happenings,
    seed=st.integers(0, 10_000),
    items=st.integers(0, 40),
)
def test_invariants_of_any_pipeline(
    steps: list[Plan],
    consumer: Plan,
    script: list[tuple[float, str, int]],
    seed: int,
    items: int,
) -> None:
    """Books balance at every instant, limits and windows hold, and nothing is lost or doubled."""

    async def main() -> None:
        world = World([*steps, consumer], seed, items)
        flow, cut, aborted = await play(world, script)
        event("aborted" if aborted else "cut off" if cut else "ended")
        check_end(world, flow, cut=cut, aborted=aborted)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=60, deadline=None)
@given(
    first=plans,
    others=st.lists(plans, max_size=2),
    keyed=st.booleans(),
    script=st.lists(st.tuples(st.floats(0, 3), st.just("retune"), st.integers(1, 6)), max_size=3),
    seed=st.integers(0, 10_000),
    items=st.integers(2, 40),
)
def test_order_of_any_pipeline(
    first: Plan,
    others: list[Plan],
    keyed: bool,
    script: list[tuple[float, str, int]],
    seed: int,
    items: int,
) -> None:
    """Through steps that keep the order, all items keep it, or those of each key do."""
    first = attrs.evolve(first, order="key" if keyed else "all", fallback="skip")
    others = [attrs.evolve(plan, order="all", fallback="letter") for plan in others]
    consumer = attrs.evolve(first, limiter="none", window=None, order="none")

    async def main() -> None:
        world = World([first, *others, consumer], seed, items)
        flow, cut, aborted = await play(world, script)
        check_end(world, flow, cut=cut, aborted=aborted)
        event("in order" if len(world.stored) > 1 else "too few to tell")
        check_order(world)

    trio.run(main, clock=MockClock(autojump_threshold=0))


arrivals = st.lists(st.sampled_from([0, 0, 0.1, 0.5, 1, 1.5, 3]), max_size=30)


@settings(max_examples=100, deadline=None)
@given(
    gaps=arrivals,
    size=st.none() | st.integers(1, 5),
    keyed=st.booleans(),
    tokens=st.integers(1, 3),
    seconds=st.sampled_from([0, 0.2, 2]),
)
def test_no_batch_is_too_old_or_too_big(
    gaps: list[float], size: int | None, keyed: bool, tokens: int, seconds: float
) -> None:
    """A batch ends in time: it waits longer only for a token, and takes in no more meanwhile."""
    within = 1.0
    came: dict[int, float] = {}
    busy = 0
    free_since = 0.0

    async def source() -> Any:
        for number, gap in enumerate(gaps):
            await trio.sleep(gap)
            came[number] = trio.current_time()
            yield number

    async def store(numbers: list[int]) -> None:
        nonlocal busy, free_since
        now = trio.current_time()
        ages = [now - came[number] for number in numbers]
        assert size is None or len(numbers) <= size
        # It was due at the latest when its oldest was; then it may have waited for a token.
        assert max(ages) <= within + 1e-9 or now == pytest.approx(free_since)
        assert max(ages) - min(ages) <= within + 1e-9
        busy += 1
        await trio.sleep(seconds)
        busy -= 1
        free_since = trio.current_time()

    batch = Batch(size, within=within, key=(lambda number: number % 2) if keyed else None)
    pipeline = Producer(source) | Consumer(store, limiter=tokens, window=100, batch=batch)

    async def main() -> None:
        report = await pipeline.run()
        assert_conserved(report)
        assert report.steps[0].completed == len(gaps)

    trio.run(main, clock=MockClock(autojump_threshold=0))
