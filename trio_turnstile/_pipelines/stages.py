"""`Stage`: steps that share a worker pool, and how the steps of a pipeline are cut into stages.

Each stage but the first has an inbox in front of it. A step that needs tokens, a window, an order
or batches of its own begins a stage; the steps after it that need none of these are fused with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.durations import Tell
from trio_turnstile._engine.gate import window_of
from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.source import RunSource, Source
from trio_turnstile._engine.tracing import Tracer, untraced
from trio_turnstile._engine.window import WINDOW_SLACK, Window, following
from trio_turnstile._limiting.either import Tokens, name_of, tokens_of
from trio_turnstile._limiting.limiter import Limiter

from .batch_step import BatchStep
from .fused import FusedSteps, KeyedSteps, OrderedSteps, Outlet
from .inbox import BatchInbox, Inbox, batch_window
from .reports import StepReport
from .step_run import StepRun
from .steps import Step
from .traced import StepTrace, batch_of_untraced, of_untraced

AnyInbox: TypeAlias = Inbox[Any] | BatchInbox[Any]

TURN = 0.0001
"""For how many seconds a task goes on if it need not wait for anything.

Two stages that never wait cost three times as much if they let others run after each item.
"""


@final
@attrs.frozen(eq=False)
class Stage:
    """Steps that share one worker pool: what feeds them, and what they feed."""

    pool: WorkerPool[Any]
    steps: Sequence[StepRun]
    window: Window
    inbox: AnyInbox | None
    outlet: Outlet | None

    @enable_ki_protection
    async def run(self) -> None:
        """Handle all items, then close the outlet."""
        if isinstance(self.inbox, BatchInbox):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.inbox.end_old_batches)
                await self.pool.run()
        else:
            await self.pool.run()
        if self.outlet is not None:
            self.outlet.close()

    def reports(self) -> list[StepReport]:
        """Return the report of each step."""
        return [self._report_first(self.steps[0]), *map(_report, self.steps[1:])]

    def _report_first(self, step: StepRun) -> StepReport:
        batches = self.inbox.triggers if isinstance(self.inbox, BatchInbox) else {}
        return attrs.evolve(
            _report(step),
            batches=dict(batches),
            limiter=None if step.tokens is None else name_of(step.tokens.limiter),
            window=self.window.size,
            queued=0 if self.inbox is None else self.inbox.queued,
            waiting=self.pool.waiting,
        )


def _report(step: StepRun) -> StepReport:
    counts = step.counts
    fates: dict[str, Any] = {fate.value: count for fate, count in counts.fates.items()}
    return StepReport(
        name=step.name,
        received=counts.received,
        in_flight=counts.in_flight,
        passed_on=counts.passed_on,
        retried=counts.retried,
        cut_off=tuple(map(untraced, counts.cut_off)),
        **fates,
    )


def build_stages(
    source: RunSource[Any],
    steps: Sequence[Step],
    functions: Sequence[Any],
    outlet: Outlet | None,
    *,
    state: RunState,
    tracer: Tracer,
    teller: Callable[[str], Tell | None],
) -> list[Stage]:
    """Make the stages of a run, the last one first, because each has to know what it feeds.

    Args:
      source: the source of the run.
      steps: the steps, in order.
      functions: the function of each step.
      outlet: where to put what comes out of the last step, if anywhere.
      state: records errors, and stops the run.
      tracer: is told what becomes of the items, if they are traced.
      teller: returns, for the name of a step, who is told how long its calls take.
    """
    if tracer.is_used:
        steps = [_of_untraced(step) for step in steps]
    ends_here = outlet is None
    traces = [
        StepTrace(tracer, ends_here and step is steps[-1]) if tracer.is_used else None
        for step in steps
    ]
    runs = _step_runs(steps, functions, traces, state, teller)
    stages: list[Stage] = []
    for begin, end in reversed(_cut(steps)):
        step, fused = steps[begin], runs[begin:end]
        if step.batch is not None:
            stage = _batch_stage(step, fused, outlet, state)
        else:
            stage = _plain_stage(step, fused, None if begin else source, outlet, state)
        stages.insert(0, stage)
        outlet = stage.inbox
    # If the first step takes batches, or there is none, the source is pumped.
    direct = stages and stages[0].inbox is None
    state.at_drain(stages[0].pool.stop_source if direct else source.stop)
    return stages


def own_limiters(stages: Sequence[Stage]) -> dict[str, Limiter]:
    """Return the limiters that were made from bare numbers, by the names of their steps."""
    steps = (step for stage in stages for step in stage.steps)
    return {step.name: step.own_limiter for step in steps if step.own_limiter is not None}


def _plain_stage(
    step: Step,
    fused: Sequence[StepRun],
    source: Source[Any] | None,
    outlet: Outlet | None,
    state: RunState,
) -> Stage:
    """Return a stage that takes items one by one, from the source or from an inbox."""
    tokens, counts = fused[0].tokens or _unlimited(), fused[0].counts
    size = WINDOW_SLACK if step.window is None and step.limiter is None else step.window
    window = window_of(counts, size, following([tokens.limiter]), fused[0].gate)
    inbox = Inbox[Any](counts, window) if source is None else None
    handler: FusedSteps | OrderedSteps | KeyedSteps
    if step.key is not None:
        handler = KeyedSteps(fused, outlet, step.key)
    elif step.ordered:
        handler = OrderedSteps(fused, outlet)
    else:
        handler = FusedSteps(fused, outlet)
    pool = WorkerPool[Any](
        source or cast("Inbox[Any]", inbox),
        handler,
        tokens,
        counts=counts,
        window=window,
        state=state,
        pace=fused[0].attempts.pace,
        turn=TURN,
        gate=fused[0].gate,
        refuse=fused[0].refuse,
    )
    return Stage(pool, fused, window, inbox, outlet)


def _batch_stage(
    step: Step, runs: Sequence[StepRun], outlet: Outlet | None, state: RunState
) -> Stage:
    """Return a stage that gathers items in its inbox and takes batches of them."""
    assert step.batch is not None
    tokens, counts = runs[0].tokens or _unlimited(), runs[0].counts
    items = batch_window(step.batch, counts, step.window, tokens.limiter)
    inbox = BatchInbox[Any](step.batch, counts, items)
    handler = BatchStep(runs, inbox, outlet)
    size = WINDOW_SLACK if step.window is None and step.limiter is None else step.window
    pool = WorkerPool[Any](
        inbox,
        handler,
        tokens,
        counts=counts,
        window=window_of(counts, size, following([tokens.limiter]), runs[0].gate),
        state=state,
        pace=runs[0].attempts.pace,
        books=handler,
        turn=TURN,
        gate=runs[0].gate,
        refuse=handler.refuse,
    )
    return Stage(pool, runs, items, inbox, outlet)


def _unlimited() -> Tokens:
    return tokens_of(trio.CapacityLimiter(math.inf))


def _cut(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Return where each stage begins and ends."""
    begins = [i for i, step in enumerate(steps) if i == 0 or step.stands_alone]
    return list(zip(begins, [*begins[1:], len(steps)], strict=bool(steps)))


def _of_untraced(step: Step) -> Step:
    """Return the same step, for traced items."""
    return attrs.evolve(
        step,
        claims=None if step.claims is None else step.claims.through(untraced),
        key=of_untraced(step.key),
        batch=batch_of_untraced(step.batch),
        cost=of_untraced(step.cost),
    )


def _step_runs(
    steps: Sequence[Step],
    functions: Sequence[Any],
    traces: Sequence[StepTrace | None],
    state: RunState,
    teller: Callable[[str], Tell | None],
) -> list[StepRun]:
    names: list[str] = []
    for step in steps:
        number = sum(step.name == other.name for other in steps[: len(names)]) + 1
        names.append(step.name if number == 1 else f"{step.name}-{number}")
    return [
        StepRun(
            step,
            name,
            function,
            tokens=None if step.limiter is None else tokens_of(step.limiter),
            state=state,
            trace=trace,
            tell=teller(name),
        )
        for step, name, function, trace in zip(steps, names, functions, traces, strict=True)
    ]
