"""Invariants of any pipeline.

Hypothesis makes up a pipeline, and what happens to it while it runs.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from testkit.interrupts import Started
from testkit.planned import PlannedError, PlannedPipeline, StepPlan, three_keys, weigh
from trio_turnstile import Aborted, Batch, ConcurrentError, PipelineRun, StepReport
from trio_turnstile.testing import assert_conserved

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
    StepPlan,
    limiter=st.sampled_from(["none", "number", "trio", "own", "shared"]),
    tokens=st.integers(1, 4),
    window=st.none() | st.integers(4, 8),
    order=st.sampled_from(["none", "none", "all", "key"]),
    batch=st.none(),
    fails=st.booleans(),
    retries=st.integers(0, 3),
    fallback=st.sampled_from(["skip", "skip", "letter", "letter", "abort"]),
)


any_plans = plans | st.builds(
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


def audit(planned: PlannedPipeline, run: PipelineRun) -> None:
    """Check the rules that hold at every instant."""
    assert_conserved(run)
    steps = run.steps
    assert steps[0].received == planned.taken
    for plan, step in zip(planned.plans, steps, strict=True):
        assert step.in_flight >= 0
        assert plan.window is None or step.in_flight <= plan.window


async def play(
    planned: PlannedPipeline, script: list[tuple[float, str, int]]
) -> tuple[PipelineRun, bool, Any]:
    """Run the pipeline and play the script; return the run, if it was cut off, and its error."""
    status = Started[PipelineRun]()
    ended = trio.Event()
    cut = False
    aborted: Aborted | None = None

    async def perform() -> None:
        nonlocal aborted
        try:
            await planned.pipeline().run(task_status=status)
        except Aborted as error:
            aborted = error
        ended.set()

    async def auditor() -> None:
        while True:
            await trio.sleep(0.05)
            audit(planned, status.values[0])

    async def director() -> None:
        nonlocal cut
        checks = list(planned.checks.values())
        for delay, what, number in script:
            await trio.sleep(delay)
            if ended.is_set():
                break
            if what in ("retune", "pause") and checks:
                checks[number % len(checks)].retune(number if what == "retune" else 0)
            elif what == "drain":
                status.values[0].drain()
            elif what == "deadline":
                cut = True
                status.values[0].drain(trio.current_time() + number / 3)
            elif what == "cancel":
                cut = True
                status.values[0].cancel()
        for check in checks:
            if check.limiter.total_tokens == 0:
                check.retune(1)

    async with trio.open_nursery() as nursery:
        with trio.fail_after(5000):
            async with trio.open_nursery() as inner:
                inner.start_soon(perform)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(auditor)
                inner.start_soon(director)
        nursery.cancel_scope.cancel()
    return status.values[0], cut, aborted


def check_end(
    planned: PlannedPipeline, run: PipelineRun, *, cut: bool, aborted: Aborted | None
) -> None:
    """Check the rules that hold when the run has ended."""
    audit(planned, run)
    steps = run.steps
    assert all(step.in_flight == 0 for step in steps)
    assert all(len(step.cut_off) == step.cancelled for step in steps)
    assert all(check.exceeded == [] for check in planned.checks.values())
    if aborted is not None:
        check_abort(planned, aborted)
        return
    if cut:
        return
    assert not planned.doomed()
    expected = planned.expected()
    for step, fates in zip(steps, expected, strict=True):
        assert fates_of(step) == fates
    # Each item is stored once, and worked on once more often than it fails.
    assert len(planned.stored) == len(set(planned.stored)) == expected[-1]["completed"]
    for (step, item), calls in planned.calls.items():
        retries = planned.plans[step].retries
        assert calls == min(planned.failures(step, item), retries) + 1
    diverted = sum(fates["diverted"] for fates in expected)
    assert planned.dead.statistics().current_buffer_used == diverted


def fates_of(step: StepReport) -> Counter[str]:
    names = ("completed", "discarded", "failed", "diverted", "cancelled")
    return Counter({name: count for name in names if (count := getattr(step, name))})


def check_abort(planned: PlannedPipeline, aborted: Aborted) -> None:
    """Check that exactly the errors of the items that failed are raised, each once."""
    for error in aborted.exceptions:
        assert isinstance(error, ConcurrentError)
        assert isinstance(error.__cause__, PlannedError)
        step, item = error.__cause__.args
        assert (error.item, error.phase) == (item, str(step))
        assert planned.plans[step].fallback == "abort"
        assert planned.failures(step, item) > planned.plans[step].retries == error.attempt - 1
    items = [error.__cause__.args for error in aborted.exceptions if error.__cause__]
    assert len(items) == len(set(items))
    assert set(aborted.exceptions) <= set(aborted.report.errors)


def check_order(planned: PlannedPipeline) -> None:
    """Check that items are stored in the order, or the order by key, of the first step."""
    if planned.plans[0].order == "all":
        assert planned.stored == sorted(planned.stored)
    for key in range(3):
        mine = [item for item in planned.stored if three_keys(item) == key]
        assert mine == sorted(mine)


PLAIN = StepPlan("none", 1, None, "none", None, fails=False, retries=0, fallback="skip")


@settings(max_examples=150, deadline=None)
@example(
    steps=[attrs.evolve(PLAIN, limiter="own"), PLAIN],
    consumer=attrs.evolve(PLAIN, limiter="number"),
    script=[(1.0, "retune", 2), (0.0, "retune", 1)],
    seed=0,
    items=4,
)
@given(
    steps=st.lists(any_plans, max_size=3),
    consumer=any_plans,
    script=happenings,
    seed=st.integers(0, 10_000),
    items=st.integers(0, 40),
)
@example(
    # A sender was cancelled, and at the same instant there was room for its item.
    steps=[PLAIN, PLAIN, attrs.evolve(PLAIN, window=4, fails=True, fallback="abort")],
    consumer=PLAIN,
    script=[],
    seed=0,
    items=10,
)
def test_invariants_of_any_pipeline(
    steps: list[StepPlan],
    consumer: StepPlan,
    script: list[tuple[float, str, int]],
    seed: int,
    items: int,
) -> None:
    """Books balance, limits and windows hold, and no item is lost or doubled."""

    async def main() -> None:
        planned = PlannedPipeline([*steps, consumer], seed, items)
        run, cut, aborted = await play(planned, script)
        event("aborted" if aborted else "cut off" if cut else "ended")
        check_end(planned, run, cut=cut, aborted=aborted)

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
    first: StepPlan,
    others: list[StepPlan],
    keyed: bool,
    script: list[tuple[float, str, int]],
    seed: int,
    items: int,
) -> None:
    """Ordered steps keep the order of all items, and keyed steps keep it within each key."""
    first = attrs.evolve(first, order="key" if keyed else "all", fallback="skip")
    others = [attrs.evolve(plan, order="all", fallback="letter") for plan in others]
    consumer = attrs.evolve(first, limiter="none", window=None, order="none")

    async def main() -> None:
        planned = PlannedPipeline([first, *others, consumer], seed, items)
        run, cut, aborted = await play(planned, script)
        check_end(planned, run, cut=cut, aborted=aborted)
        event("in order" if len(planned.stored) > 1 else "too few to tell")
        check_order(planned)

    trio.run(main, clock=MockClock(autojump_threshold=0))
