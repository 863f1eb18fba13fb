"""`PipelineRun`: one run of a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from time import perf_counter
from typing import Any, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.buffer import failure_of
from trio_turnstile._engine.listing import Listing
from trio_turnstile._engine.read_ahead import SourceEnded, receive_from
from trio_turnstile._engine.recorded_source import Identity, read_recorded
from trio_turnstile._engine.recording import (
    LedgerError,
    Recorder,
    RunLedger,
    recording,
    stop_for_ledger,
)
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import lent_tokens
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.sources import in_order, reading
from trio_turnstile._engine.tracing import Tracer
from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._limiting.live_run import RunKind, RunStage
from trio_turnstile._util import unwrapped_interrupts

from .fused import Outlet
from .opening import Opening, OpenSource, open_step
from .reports import PipelineReport, StepReport
from .stages import TURN, Stage, build_stages, own_limiters
from .steps import Step


@final
class PipelineRun:
    """A live run of a pipeline: its report, and a way to end it.

    ``run = await nursery.start(pipeline.run)`` returns it.
    """

    def __init__(
        self, state: RunState, stages: Sequence[Stage], tracer: Tracer, listing: Listing
    ) -> None:
        self._listing = listing
        self._state = state
        self._stages = stages
        self._tracer = tracer

    @property
    def name(self) -> str:
        """The name of the run; a turnstile may have added a number to make it unique."""
        return self._listing.name

    @property
    def id(self) -> str:
        """A random UUID, in hex, that identifies the run."""
        return self._listing.id

    @property
    def kind(self) -> RunKind:
        """``"pipeline"``."""
        return self._listing.kind

    @property
    def started(self) -> float:
        """When it was started, on trio's clock, in seconds."""
        return self._listing.started

    @property
    def state(self) -> RunStage:
        """How far it has come: ``"running"``, ``"draining"``, ``"cancelling"`` or ``"ended"``.

        It is draining if it was told to stop, or stops because of an error, and is finishing
        what is in hand.
        """
        return self._listing.stage

    @property
    def total(self) -> int | None:
        """How many items its source has; ``None`` if that is not known, as for a generator."""
        return self._listing.total

    @property
    def steps(self) -> tuple[StepReport, ...]:
        """The report of each step, at this moment."""
        reports = [report for stage in self._stages for report in stage.reports()]
        skipped = self._tracer.skipped
        if skipped and reports:
            received = reports[0].received + skipped
            reports[0] = attrs.evolve(reports[0], received=received, skipped=skipped)
        return tuple(reports)

    @property
    def stopped_by(self) -> ConcurrentError | None:
        """The error that ends the run early; ``None`` while none does."""
        return self._state.stopped_by

    async def wait_stopping(self) -> None:
        """Wait until the run was told to stop, by whatever means, or has ended."""
        await self._state.wait_stopping()

    def report(self) -> PipelineReport:
        """Return a report of the run so far."""
        state = self._state
        return PipelineReport(self.steps, tuple(state.errors), state.errors_omitted, state.ended)

    def drain(self, deadline: float | None = None) -> None:
        """Receive nothing more from the source, and let what is in hand go through to the end.

        Does not wait: the run ends when everything is through.

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
    make_outlet: Callable[[Tracer], Outlet] | None = None,
    ledger: RunLedger | None = None,
    identity: Identity = str,
    name: str | None = None,
    task_status: trio.TaskStatus[PipelineRun] = trio.TASK_STATUS_IGNORED,
) -> PipelineReport:
    """Run the steps of a pipeline; see `Pipeline.run`.

    Args:
      open_source: opens the source of the run.
      steps: the steps, in order.
      max_errors: how many errors to keep for the report.
      make_outlet: makes the outlet for what comes out of the last step, if anything does.
      ledger: keeps what becomes of the items of the source, if there is one.
      identity: returns the text by which the ledger knows an item.
      name: the name of the run.
      task_status: gets the `PipelineRun` once everything is open.
    """
    state = RunState(max_errors)
    tracer = Tracer(state)
    outlet: Outlet | None = None
    stages: Sequence[Stage] = ()
    source: RunSource[Any] | None = None
    limiters = [step.limiter for step in steps if step.limiter is not None]
    listing = Listing(name, "pipeline", state, limiters)
    async with (
        lent_tokens(limiters),
        recording(ledger) as recorder,
        AsyncExitStack() as around,  # left when the run has ended
    ):
        try:
            with unwrapped_interrupts():
                async with AsyncExitStack() as stack:
                    opening = Opening(stack, state, listing.expect, tracer)
                    source = await _open_source(open_source, opening, recorder, identity)
                    if make_outlet is not None:
                        outlet = make_outlet(tracer)
                    if steps and (steps[0].ordered or steps[0].key is not None):
                        source = in_order(source)
                    functions = [await open_step(step, opening) for step in steps]
                    stages = build_stages(
                        source,
                        steps,
                        functions,
                        outlet,
                        state=state,
                        tracer=tracer,
                        teller=listing.teller,
                    )
                    live = PipelineRun(state, stages, tracer, listing)
                    around.enter_context(listing.listed(live, own_limiters(stages)))
                    started = partial(task_status.started, live)
                    await _carry_out(source, stages, outlet, state, started)
        finally:
            for stage in stages:
                stage.pool.close_books()
            if source is not None and stages and stages[0].inbox is not None:
                # Items that were read for a pump that has ended belong to no pool.
                for item in source.abandon():
                    stages[0].steps[0].counts.receive()
                    stages[0].steps[0].counts.cancel(item)
            if outlet is not None:
                outlet.close()
            tracer.finish()
            state.end()
        if recorder is not None:
            await _flush(recorder, state)
    report = PipelineRun(state, stages, tracer, listing).report()
    return state.conclude(f"the pipeline was stopped: {_figures(report)}", report)


async def _open_source(
    open_source: OpenSource, opening: Opening, recorder: Recorder | None, identity: Identity
) -> RunSource[Any]:
    """Open the source of a run, and arrange for closing it at the end."""
    source = await open_source(opening)
    opening.close_at_end(source)
    if recorder is None:
        return source
    opening.tracer.use()
    return read_recorded(source, recorder, identity, opening.tracer)


async def _carry_out(
    source: RunSource[Any],
    stages: Sequence[Stage],
    outlet: Outlet | None,
    state: RunState,
    started: Callable[[], None],
) -> None:
    """Run the stages, and what reads the source, until the last item has ended."""
    # The source is closed outside the scope, so that it may await even after an abort.
    async with reading(source, state):
        with state.scope:
            async with trio.open_nursery() as nursery:
                for stage in stages:
                    nursery.start_soon(stage.run)
                entrance = stages[0].inbox if stages else outlet
                if entrance is not None:
                    nursery.start_soon(_pump, source, entrance, state)
                started()


async def _flush(recorder: Recorder, state: RunState) -> None:
    """Wait until the fates of all items are on disk."""
    try:
        await recorder.flush()
    except LedgerError as error:
        stop_for_ledger(state, error)


def _figures(report: PipelineReport) -> str:
    return "; ".join(
        f"{step.name!r} received {step.received}, completed {step.completed}, failed {step.failed}"
        for step in report.steps
    )


@enable_ki_protection
async def _pump(source: RunSource[Any], outlet: Outlet, state: RunState) -> None:
    """Put all items of the source into the outlet."""
    turn_ends = perf_counter() + TURN
    try:
        while True:
            await outlet.wait_for_room()  # first, because an item in hand here is in no books
            item = await receive_from(source)
            if not outlet.put_nowait(item):
                await outlet.put(item)
            item = None  # the wait for the next item must not keep the last one alive
            if perf_counter() >= turn_ends:
                await trio.lowlevel.checkpoint()
                turn_ends = perf_counter() + TURN
    except SourceEnded:
        pass
    except Exception as error:
        state.stop(describe(failure_of(error), item=None, phase="source"), "soon")
    outlet.close()
