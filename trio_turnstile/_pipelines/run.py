"""`PipelineRun`: one run of a pipeline.

The steps are cut into segments, each on a stage of its own, with an inbox before
each but the first. A step that needs tokens, a window, an order or batches of its
own begins a fused; the steps after it that need nothing belong to it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, TypeAlias, cast, final

import attrs
import trio

from trio_turnstile._engine.pool import WINDOW_SLACK, WorkerPool
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.sources import ENDED, Source
from trio_turnstile._errors import Aborted, describe, interruption
from trio_turnstile._limiting.either import AnyLimiter

from .batch_step import BatchStep
from .fused import FusedSteps, KeyedSteps, OrderedSteps, Outlet
from .inbox import BatchInbox, Inbox
from .reports import PipelineReport, StepReport
from .step_run import StepRun
from .steps import Step

AnyInbox: TypeAlias = Inbox[Any] | BatchInbox[Any]
OpenSource: TypeAlias = Callable[[AsyncExitStack], Awaitable[Source[Any]]]
"""Opens the source of a run; what has to be closed goes on the stack."""


@final
@attrs.frozen(eq=False)
class _Stage:
    """One fused: its stage, its steps, what feeds it and what it feeds."""

    pool: WorkerPool[Any]
    steps: Sequence[StepRun]
    inbox: AnyInbox | None
    outlet: Outlet | None

    async def run(self) -> None:
        await self.pool.run()
        if self.outlet is not None:
            self.outlet.close()

    def reports(self) -> Iterable[StepReport]:
        for index, step in enumerate(self.steps):
            inbox = None if index else self.inbox
            waiting = len(inbox) if isinstance(inbox, Inbox) else 0
            counts = step.counts
            # Only the first step of a fused keeps count of what it has in flight.
            settled = sum(counts.fates.values())
            in_flight = counts.received - settled if index else counts.in_flight
            yield StepReport(
                name=step.name,
                received=counts.received + waiting,
                in_flight=in_flight + waiting,
                retried=counts.retried,
                cut_off=tuple(step.cut_off),
                batches=dict(inbox.triggers) if isinstance(inbox, BatchInbox) else {},
                **counts.fates,
            )

    def close_books(self) -> None:
        """Book as cancelled what was cut off, and what no worker took any more."""
        first = self.steps[0]
        if isinstance(self.inbox, BatchInbox):
            batched = [item for batch in self.pool.cut_off for item in batch.items]
            for item in (*batched, *self.inbox.abandon()):
                self.inbox.settle("cancelled")
                first.cut_off.append(item)
            return
        self.pool.close_books()
        first.cut_off.extend(self.pool.cut_off)


@final
class PipelineRun:
    """A run of a pipeline while it goes on: its account, and a way to end it.

    ``flow = await nursery.start(pipeline.run)`` gives it.
    """

    def __init__(
        self,
        open_source: OpenSource,
        steps: Sequence[Step],
        *,
        max_errors: int,
        outlet: Outlet | None = None,
    ) -> None:
        self._open_source = open_source
        self._specs = steps
        self._outlet = outlet
        self._state = RunState(max_errors)
        self._parts: list[_Stage] = []

    @property
    def steps(self) -> tuple[StepReport, ...]:
        """The account of each step, at this moment."""
        return tuple(report for part in self._parts for report in part.reports())

    def report(self) -> PipelineReport:
        """Return the account of the run so far."""
        state = self._state
        return PipelineReport(self.steps, tuple(state.errors), state.errors_omitted)

    def drain(self, deadline: float | None = None) -> None:
        """Take no more from the source, and let what is in hand go through to the end.

        Does not wait: the run ends when all is through.

        Args:
          deadline: when to cancel what is still in hand, on trio's clock
            (``trio.current_time() + seconds``); ``None`` for never.
        """
        self._state.drain(deadline)

    def cancel(self) -> None:
        """End the run now; what is in hand is cancelled and accounted for."""
        self._state.scope.cancel()

    async def run(self, task_status: trio.TaskStatus[PipelineRun]) -> PipelineReport:
        """Run the pipeline; for `Pipeline.run`, which see."""
        try:
            async with AsyncExitStack() as stack:
                source = await self._open_source(stack)
                functions = [await _open_step(step, stack) for step in self._specs]
                tasks = self._build(source, functions)
                with self._state.scope:
                    async with trio.open_nursery() as nursery:
                        for task in tasks:
                            nursery.start_soon(task)
                        task_status.started(self)
        except BaseExceptionGroup as group:
            interrupt = interruption(group)
            if interrupt is None:
                raise
            raise interrupt from group
        finally:
            for part in self._parts:
                part.close_books()
            if self._outlet is not None:
                self._outlet.close()
        if self._state.fatal:
            aborted = Aborted("the pipeline was stopped", self._state.fatal)
            aborted.report = self.report()
            raise aborted
        return self.report()

    # ---- building ----

    def _build(
        self, source: Source[Any], functions: Sequence[Any]
    ) -> list[Callable[[], Awaitable[object]]]:
        """Make the parts, last first, as each has to know what it feeds."""
        runs = self._step_runs(functions)
        outlet = self._outlet
        tasks: list[Callable[[], Awaitable[object]]] = []
        for begin, end in reversed(_cut(self._specs)):
            first = begin == 0 and self._specs[0].batch is None
            part = self._part(begin, runs[begin:end], source if first else None, outlet)
            self._parts.insert(0, part)
            tasks.append(part.run)
            outlet = part.inbox
        if outlet is None:
            self._state.stop_source = self._parts[0].pool.stop_source
        else:  # the first step takes batches, or there is none: somebody has to fetch
            self._state.stop_source = source.stop
            tasks.append(partial(_pump, source, outlet, self._state))
        return tasks

    def _step_runs(self, functions: Sequence[Any]) -> list[StepRun]:
        names: list[str] = []
        for step in self._specs:
            number = sum(step.name == other.name for other in self._specs[: len(names)]) + 1
            names.append(step.name if number == 1 else f"{step.name}-{number}")
        return [
            StepRun(step, name, function, limiter=step.limiter, state=self._state)
            for step, name, function in zip(self._specs, names, functions, strict=True)
        ]

    def _part(
        self,
        begin: int,
        steps: Sequence[StepRun],
        source: Source[Any] | None,
        outlet: Outlet | None,
    ) -> _Stage:
        step, state = self._specs[begin], self._state
        limiter: AnyLimiter = step.limiter or trio.CapacityLimiter(math.inf)
        window = step.window
        if window is None and step.limiter is None:
            window = WINDOW_SLACK
        fused: FusedSteps | OrderedSteps | KeyedSteps | BatchStep
        inbox: AnyInbox | None = None
        counts = steps[0].counts
        if step.batch is not None:
            inbox = BatchInbox(step.batch, counts, state, window=step.window, limiter=limiter)
            fused = BatchStep(steps[0], inbox)
            stage = WorkerPool[Any](
                inbox, fused.handle, limiter, state=state, rate=step.rate, window=window
            )
            return _Stage(stage, steps, inbox, outlet)
        if step.key is not None:
            fused = KeyedSteps(steps, outlet, step.key)
        elif step.ordered:
            fused = OrderedSteps(steps, outlet)
        else:
            fused = FusedSteps(steps, outlet)
        hall = Inbox[Any]()
        stage = WorkerPool(
            hall if source is None else source,
            fused.handle,
            limiter,
            state=state,
            admit=fused.admit,
            recover=fused.recover,
            follow=fused.follow,
            leave=fused.leave,
            rate=step.rate,
            window=window,
            counts=counts,
        )
        hall.pool = stage
        return _Stage(stage, steps, hall if source is None else None, outlet)


def _cut(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Return where each fused begins and ends."""
    begins = [i for i, step in enumerate(steps) if i == 0 or step.stands_alone]
    return list(zip(begins, [*begins[1:], len(steps)], strict=bool(steps)))


async def _open_step(step: Step, stack: AsyncExitStack) -> Callable[[Any], Awaitable[Any]]:
    call: Any = step.call
    entered: Any = None
    if isinstance(call, AbstractAsyncContextManager):
        entered = await stack.enter_async_context(cast("Any", call))
    for function in (entered, call):
        if callable(function):
            return cast("Callable[[Any], Awaitable[Any]]", function)
    raise TypeError(
        f"step {step.name!r} is an async context manager that gives {entered!r}, "
        "and neither can be called with an item"
    )


async def _pump(source: Source[Any], outlet: Outlet, state: RunState) -> None:
    """Put all items of the source into the outlet."""
    async with trio.open_nursery() as nursery:
        if source.feed is not None:
            nursery.start_soon(source.feed)
        try:
            while True:
                await outlet.wait_for_room()  # first: an item in hand here is in no books
                try:
                    item = source.receive_nowait()
                except trio.WouldBlock:
                    item = await source.receive()
                if not outlet.put_nowait(item):
                    await outlet.put(item)
                await trio.lowlevel.checkpoint()
        except ENDED:
            pass
        except Exception as error:
            failed = describe(error, item=None, phase="source")
            state.record(failed)
            state.stop(failed, "soon")
        outlet.close()
