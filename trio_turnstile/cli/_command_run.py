"""One run of ``turnstile run``: from a `Plan` to the exit status."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Literal, TypeAlias, final

import attrs
import trio

from trio_turnstile import (
    Aborted,
    Decision,
    Event,
    Halt,
    Limiter,
    Manager,
    Phase,
    Reason,
    Retry,
    Skip,
    Turnstile,
    open_turnstile,
    run_phases,
)

from ._inputs import Inputs
from ._joblog import JobLog
from ._output import Printer
from ._progress import Progress, ProgressSnapshot, open_progress
from ._shell import CommandFailed, RunContext, ShellOperation
from ._signals import STOPS, heeded, leave
from ._summary import Summary
from ._template import Template
from ._units import Duration

ERRORS_SHOWN = 20
"""How many errors the summary shows."""

PRINT_TIMEOUT = 2.0
"""Seconds that a cancelled run may take to print its output, once all operations ended."""

State: TypeAlias = Literal["", "draining", "halting", "cancelling"]
"""How a run is being ended early; empty if it is not."""


@final
@attrs.frozen(kw_only=True)
class Plan:
    """What the user asks of a run."""

    inputs: Inputs
    """What to run the commands for."""
    commands: Mapping[Phase, Template]
    """The commands by phase."""
    limiter: Limiter
    """Bounds how many operations run at a time."""
    timeout: float | None
    """Seconds that each command but the clean-up may take; ``None`` for no limit."""
    grace: Duration
    """Seconds that a clean-up may take."""
    kill_after: float
    """Seconds from a SIGTERM to a SIGKILL."""
    retries: int
    """How many times to retry an operation that failed."""
    halt: Halt | None
    """After which failures to stop; ``None`` for none."""
    joblog: JobLog | None
    """Where to log operations."""
    quiet: bool
    """Whether to show errors alone, and no progress."""


async def run_plan(plan: Plan) -> int:
    """Run a plan, report to standard error, and return the exit status."""
    progress = open_progress(quiet=plan.quiet)
    printer = Printer(progress)
    observer = partial(_note_decision, progress)
    with trio.open_signal_receiver(*_signals()) as signals:
        async with open_turnstile(observers=[observer]) as turnstile:
            turnstile.add(plan.limiter)
            async with trio.open_nursery() as services:
                async with trio.open_nursery() as nursery:
                    manager = await nursery.start(_run_operations, plan, printer, progress)
                    run = CommandRun(plan, manager, printer, progress)
                    nursery.start_soon(run.print_outputs)
                    services.start_soon(plan.inputs.read)
                    services.start_soon(progress.run, run.snapshot)
                    services.start_soon(run.act_on_signals, signals, turnstile)
                    services.start_soon(run.watch_for_halt)
                    services.start_soon(run.limit_printing)
                services.cancel_scope.cancel()
        leave.over = True
        return _conclude(run.summary(), progress, quiet=plan.quiet)


async def _run_operations(
    plan: Plan, printer: Printer, progress: Progress, task_status: trio.TaskStatus[Manager]
) -> None:
    with suppress(Aborted):  # the manager and the inputs know the errors
        await run_phases(
            _operations(plan, printer, progress),
            limiter=plan.limiter,
            on_error=[
                Retry(plan.retries, on=(CommandFailed, OSError)),
                Skip() if plan.halt is None else plan.halt,
            ],
            # The clean-up command has a limit of its own. This one, which is longer, is for
            # what an operation does around it.
            cleanup_grace=plan.grace + plan.kill_after + 10,
            max_errors=ERRORS_SHOWN,
            task_status=task_status,
        )
    printer.end()


async def _operations(
    plan: Plan, printer: Printer, progress: Progress
) -> AsyncIterator[ShellOperation]:
    context = RunContext(
        commands=plan.commands,
        timeouts={
            "prepare": plan.timeout,
            "work": plan.timeout,
            "monitor": plan.timeout,
            "cleanup": plan.grace,
        },
        kill_after=plan.kill_after,
        printer=printer,
        joblog=plan.joblog,
        note=progress.note,
    )
    # Back-pressure from whatever reads our output. It comes before an input is taken, so
    # that none is lost, and not in `prepare`: a run that stops meanwhile begins nothing.
    await printer.wait_for_room()
    async for text in plan.inputs:
        yield ShellOperation(context, plan.inputs.taken, text)
        await printer.wait_for_room()


@final
class CommandRun:
    """A run of `run_phases` for the command, from its start to its summary.

    Args:
      plan: what the user asks for.
      manager: the run itself.
      printer: prints the outputs of operations.
      progress: shows notes to the user.
    """

    def __init__(self, plan: Plan, manager: Manager, printer: Printer, progress: Progress) -> None:
        self._plan = plan
        self._manager = manager
        self._printer = printer
        self._progress = progress
        self._started = trio.current_time()
        self._state: State = ""
        self._cancelled = trio.Event()
        self._printing = trio.CancelScope()
        self._lost_output = False
        self._stop_signal: signal.Signals | None = None

    async def print_outputs(self) -> None:
        """Print the outputs of operations until the last, or until `limit_printing` gives up."""
        with self._printing:
            await self._printer.run(self._output_lost)

    async def limit_printing(self) -> None:
        """Give up printing some time after a cancelled run is over, as its reader may be stuck."""
        await self._cancelled.wait()
        await self._printer.ended.wait()
        await trio.sleep(PRINT_TIMEOUT)
        self._printing.cancel()

    async def act_on_signals(self, signals: AsyncIterator[int], turnstile: Turnstile) -> None:
        """Change the limit, drain the run or cancel it, as each signal asks."""
        async for signum in signals:
            if signum == signal.SIGUSR1:
                turnstile.up()
            elif signum == signal.SIGUSR2:
                turnstile.down()
            elif self._stop_signal is None:
                self._stop_signal = signal.Signals(signum)
                self._drain(
                    f"{self._stop_signal.name}: starting nothing more, "
                    "and letting running operations finish; a second signal cancels them"
                )
            else:
                self._cancel()

    async def watch_for_halt(self) -> None:
        """Tell the user when failures halt the run."""
        await self._manager.wait_stopping()
        halt, error = self._plan.halt, self._manager.stopped_by
        if self._state or halt is None or error is None or error.phase == "source":
            return
        self._state = "halting"
        report = self._manager.report()
        failures = len(report.errors) + report.errors_omitted
        self._progress.note(f"halting {halt.when}: {failures} failed")

    def snapshot(self) -> ProgressSnapshot:
        """Return how far the run has come."""
        return ProgressSnapshot(
            limit=self._plan.limiter.total_tokens,
            running=self._plan.limiter.borrowed_tokens,
            completed=self._manager.completed,
            failed=self._manager.failed,
            total=self._plan.inputs.total,
            state=self._state,
        )

    def summary(self) -> Summary:
        """Return the result of the run, which must be over."""
        report, inputs = self._manager.report(), self._plan.inputs
        not_started = (
            operation
            for operation in report.cut_off
            if isinstance(operation, ShellOperation) and not operation.started
        )
        return Summary(
            completed=report.completed,
            failed=report.failed,
            started=report.received - len(list(not_started)),
            total=inputs.total,
            errors=report.errors,
            errors_omitted=report.errors_omitted,
            input_error=inputs.error,
            stop_signal=self._stop_signal,
            lost_output=self._lost_output,
            seconds=trio.current_time() - self._started,
        )

    def _drain(self, why: str) -> None:
        self._state = self._state or "draining"
        self._manager.drain()
        self._progress.note(why)

    def _cancel(self) -> None:
        self._state = "cancelling"
        self._progress.note(f"cancelled; clean-ups may take {self._plan.grace} each")
        self._manager.cancel()
        self._cancelled.set()

    def _output_lost(self, error: OSError) -> None:
        self._lost_output = True
        self._drain(
            f"starting nothing more, as standard output cannot be written: {error.strerror}"
        )


def _note_decision(progress: Progress, event: Event) -> None:
    if isinstance(event, Decision) and event.signal is not None:
        progress.note(describe_decision(event))


def describe_decision(decision: Decision) -> str:
    """Return what a signal has done to the limit, in the words of the options."""
    if decision.applied:
        return f"limit {decision.before} -> {decision.after}"
    match decision.reason:
        case Reason.HOLDING:
            why = f"--hold has {decision.evidence.get('hold_left', 0):.1f} s to go"
        case Reason.AT_CEILING:
            why = "that is --max"
        case Reason.AT_MINIMUM:
            why = "that is --min"
        case reason:
            why = reason.value
    asked = "signal" if decision.signal is None else decision.signal.value
    return f"limit stays {decision.after}: {asked} refused, {why}"


def _conclude(summary: Summary, progress: Progress, *, quiet: bool) -> int:
    for text in summary.describe_errors():
        progress.note(text)
    if not quiet:
        progress.note(str(summary))
    return summary.status


def _signals() -> list[signal.Signals]:
    return [*heeded(STOPS), signal.SIGUSR1, signal.SIGUSR2]
