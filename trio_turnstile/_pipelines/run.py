"""`PipelineRun`: one run of a pipeline.

The steps are cut into stages, each with a worker pool of its own and an inbox before
each but the first. A step that needs tokens, a window, an order or batches of its own
begins a stage; the steps after it that need nothing are fused with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any, TypeAlias, cast, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.buffer import failure_of
from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.read_ahead import SourceEnded, receive_from
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import lent_tokens
from trio_turnstile._engine.source import RunSource, Source
from trio_turnstile._engine.sources import in_order, reading
from trio_turnstile._engine.window import WINDOW_SLACK, Window, following
from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._limiting.either import Tokens, tokens_of
from trio_turnstile._util import unwrapped_interrupts

from .batch_step import BatchStep
from .fused import FusedSteps, KeyedSteps, OrderedSteps, Outlet
from .inbox import BatchInbox, Inbox, batch_window
from .opening import Opening, OpenSource, open_step
from .reports import PipelineReport, StepReport
from .step_run import StepRun
from .steps import Step

AnyInbox: TypeAlias = Inbox[Any] | BatchInbox[Any]

TURN = 0.0001
"""For how long a task goes on that need not wait for anything, in seconds.

Two stages that never wait cost three times as much when they let others run after each item.
"""


@final
@attrs.frozen(eq=False)
class Stage:
    """Steps that share one worker pool: what feeds them, and what they feed."""

    pool: WorkerPool[Any]
    steps: Sequence[StepRun]
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
        """Return the account of each step."""
        first = self.inbox.triggers if isinstance(self.inbox, BatchInbox) else {}
        return [_report(step, {} if index else first) for index, step in enumerate(self.steps)]


def _report(step: StepRun, batches: dict[Any, int]) -> StepReport:
    counts = step.counts
    return StepReport(
        name=step.name,
        received=counts.received,
        in_flight=counts.in_flight,
        passed_on=counts.passed_on,
        retried=counts.retried,
        cut_off=tuple(counts.cut_off),
        batches=dict(batches),
        **{fate.value: count for fate, count in counts.fates.items()},
    )


@final
class PipelineRun:
    """A run of a pipeline while it goes on: its account, and a way to end it.

    ``run = await nursery.start(pipeline.run)`` gives it.
    """

    def __init__(self, state: RunState, stages: Sequence[Stage]) -> None:
        self._state = state
        self._stages = stages

    @property
    def steps(self) -> tuple[StepReport, ...]:
        """The account of each step, at this moment."""
        return tuple(report for stage in self._stages for report in stage.reports())

    @property
    def stopped_by(self) -> ConcurrentError | None:
        """The error that ends the run early; ``None`` while none does."""
        return self._state.stopped_by

    async def wait_stopping(self) -> None:
        """Wait until the run was told to stop, by whatever means, or has ended."""
        await self._state.wait_stopping()

    def report(self) -> PipelineReport:
        """Return the account of the run so far."""
        state = self._state
        return PipelineReport(self.steps, tuple(state.errors), state.errors_omitted, state.ended)

    def drain(self, deadline: float | None = None) -> None:
        """Receive no more from the source, and let what is in hand go through to the end.

        Does not wait: the run ends when all is through.

        Args:
          deadline: when to cancel what is still in hand, on trio's clock
            (``trio.current_time() + seconds``); ``None`` for never.
        """
        self._state.drain(deadline)

    def cancel(self) -> None:
        """End the run now. What is in hand is cancelled and accounted for."""
        self._state.cancel()


@enable_ki_protection
async def run_steps(
    open_source: OpenSource,
    steps: Sequence[Step],
    *,
    max_errors: int,
    outlet: Outlet | None = None,
    task_status: trio.TaskStatus[PipelineRun] = trio.TASK_STATUS_IGNORED,
) -> PipelineReport:
    """Run the steps of a pipeline; for `Pipeline.run`, which see.

    Args:
      open_source: gives the source of the run.
      steps: the steps, in order.
      max_errors: how many errors to keep for the report.
      outlet: where to put what comes out of the last step, if anywhere.
      task_status: is given the `PipelineRun` once all is open.
    """
    state = RunState(max_errors)
    stages: Sequence[Stage] = ()
    source: RunSource[Any] | None = None
    limiters = [step.limiter for step in steps if step.limiter is not None]
    try:
        with unwrapped_interrupts():
            async with lent_tokens(limiters), AsyncExitStack() as stack:
                opening = Opening(stack, state)
                source = await open_source(opening)
                stack.push_async_callback(source.close)
                if steps and (steps[0].ordered or steps[0].key is not None):
                    source = in_order(source)
                functions = [await open_step(step, opening) for step in steps]
                stages = _build(source, _step_runs(steps, functions, state), steps, outlet, state)
                # The source is closed outside of the scope: also after an abort it may await.
                async with reading(source, state):
                    with state.scope:
                        async with trio.open_nursery() as nursery:
                            for stage in stages:
                                nursery.start_soon(stage.run)
                            entrance = stages[0].inbox if stages else outlet
                            if entrance is not None:
                                nursery.start_soon(_pump, source, entrance, state)
                            task_status.started(PipelineRun(state, stages))
    finally:
        for stage in stages:
            stage.pool.close_books()
        if source is not None and stages and stages[0].inbox is not None:
            # What was read for a pump that has ended belongs to no pool.
            for item in source.abandon():
                stages[0].steps[0].counts.receive()
                stages[0].steps[0].counts.cancel(item)
        if outlet is not None:
            outlet.close()
        state.end()
    report = PipelineRun(state, stages).report()
    return state.conclude(f"the pipeline was stopped: {_figures(report)}", report)


def _figures(report: PipelineReport) -> str:
    return "; ".join(
        f"{step.name!r} received {step.received}, completed {step.completed}, failed {step.failed}"
        for step in report.steps
    )


# ---- building ----


def _build(
    source: RunSource[Any],
    runs: Sequence[StepRun],
    steps: Sequence[Step],
    outlet: Outlet | None,
    state: RunState,
) -> list[Stage]:
    """Make the stages, last first, as each has to know what it feeds."""
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
    window = Window(counts, size, following([tokens.limiter]))
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
        rate=step.rate,
        turn=TURN,
    )
    return Stage(pool, fused, inbox, outlet)


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
        window=Window(counts, size, following([tokens.limiter])),
        state=state,
        rate=step.rate,
        books=handler,
        turn=TURN,
    )
    return Stage(pool, runs, inbox, outlet)


def _unlimited() -> Tokens:
    return tokens_of(trio.CapacityLimiter(math.inf))


def _cut(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Return where each stage begins and ends."""
    begins = [i for i, step in enumerate(steps) if i == 0 or step.stands_alone]
    return list(zip(begins, [*begins[1:], len(steps)], strict=bool(steps)))


def _step_runs(steps: Sequence[Step], functions: Sequence[Any], state: RunState) -> list[StepRun]:
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
        )
        for step, name, function in zip(steps, names, functions, strict=True)
    ]


@enable_ki_protection
async def _pump(source: RunSource[Any], outlet: Outlet, state: RunState) -> None:
    """Put all items of the source into the outlet."""
    turn_ends = perf_counter() + TURN
    try:
        while True:
            await outlet.wait_for_room()  # first: an item in hand here is in no books
            item = await receive_from(source)
            if not outlet.put_nowait(item):
                await outlet.put(item)
            item = None  # who waits for the next must not keep the last one alive
            if perf_counter() >= turn_ends:
                await trio.lowlevel.checkpoint()
                turn_ends = perf_counter() + TURN
    except SourceEnded:
        pass
    except Exception as error:
        state.stop(describe(failure_of(error), item=None, phase="source"), "soon")
    outlet.close()
