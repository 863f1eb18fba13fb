"""`CommandRun`: the operations of one run of ``turnstile run``, and how they are ended."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from tempfile import gettempdir
from typing import TYPE_CHECKING, Literal, TypeAlias, final

import trio

from trio_turnstile import (
    Aborted,
    Ledger,
    Manager,
    Retry,
    Skip,
    Turnstile,
    run_phases,
)

from ._interrupted import Interrupted
from ._kept_inputs import KeptInputs, input_of
from ._launcher import Launcher
from ._leftovers import Leftovers
from ._limit_options import LIMITER
from ._plan import Plan
from ._printer import Printer
from ._process import CommandFailed
from ._progress import Progress, ProgressSnapshot
from ._records import Records
from ._run_context import RunContext
from ._shell import ShellOperation
from ._signals import heeded
from ._slots import Slots
from ._stopping import Stopping, UnlessStopping
from ._summary import Summary
from ._time_limit import make_time_limit
from ._weights import TellRefused

if TYPE_CHECKING:
    from ._jobs import Jobs

ERRORS_SHOWN = 20
"""How many errors the summary shows."""

PRINT_TIMEOUT = 2.0
"""Seconds that a cancelled run may take to print its output, once all operations ended."""

State: TypeAlias = Literal["", "draining", "halting", "cancelling"]
"""How a run is being ended early; empty if it is not."""


@final
class CommandRun:
    """A run of `run_phases` for the command, from its start to its summary.

    Args:
      plan: what the user asks for.
      progress: shows notes to the user.
      ledger: records the outcomes of the operations, if the user wants that.
    """

    manager: Manager
    """The run itself; `run_operations` gives it."""
    jobs: Jobs | None = None
    """The jobs that do the work, while the cluster is open, if the user wants that."""

    state: State
    """How the run is being ended."""

    def __init__(self, plan: Plan, progress: Progress, ledger: Ledger | None) -> None:
        self.leftovers = Leftovers()
        self._plan = plan
        self._ledger = ledger
        self._inputs = KeptInputs(plan, ledger)
        self._progress = progress
        order = plan.output.make_order()
        self._printer = Printer(progress, order)
        self._outlet = plan.output.make_outlet(
            self._printer, order, plan.columns, plan.commands["work"], self._output_lost
        )
        table = plan.output.open_table(plan.columns)
        self.records = Records(plan.joblog, table, progress.note)
        self._launcher = Launcher(progress.note, plan.shell)
        self.slots = Slots(plan.limiter)
        self._stopping, self._interrupted = Stopping(), Interrupted()
        self._started = trio.current_time()
        self.state: State = ""
        self._ended = self._succeeded = 0
        self._at_goal = False
        self._cancelled = trio.Event()
        self._printing = trio.CancelScope()
        self._lost_output = self._lost_ledger = False
        self._stop_signal: signal.Signals | None = None

    @property
    def patience(self) -> float:
        """Seconds to wait at the end for the reader of standard error."""
        return PRINT_TIMEOUT if self._cancelled.is_set() else math.inf

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Leave nothing behind at the end: no command after SIGQUIT, no pipe without a reader."""
        with suppress(OSError):
            gettempdir()  # it is cached; when files are short later, no folder would be found
        before = signal.getsignal(signal.SIGQUIT)
        if heeded((signal.SIGQUIT,)):
            signal.signal(signal.SIGQUIT, self._quit)
        try:
            yield
        finally:
            signal.signal(signal.SIGQUIT, before)
            self._launcher.close()
            self.leftovers.hand_over()

    async def run_operations(self, task_status: trio.TaskStatus[Manager]) -> None:
        """Run the operations; the task status gives the manager."""
        plan = self._plan
        retry = Retry(plan.retries, on=(CommandFailed, OSError))
        with suppress(Aborted):  # the manager and the inputs have the errors
            await run_phases(
                self._operations(),
                limiter=plan.entrance,
                weight=None if plan.weight is None else plan.weight.for_phases,
                rate=plan.starts.rate,
                cost=plan.starts.price,
                on_error=[
                    TellRefused(),
                    UnlessStopping(retry, self._stopping),
                    Skip() if plan.halt is None else plan.halt,
                ],
                # The clean-up command has its own time limit. A limit here would also count
                # the time in which we were suspended.
                cleanup_grace=math.inf,
                max_errors=ERRORS_SHOWN,
                ledger=self._ledger,
                retry_failed=plan.keeping is not None and plan.keeping.retry_failed,
                name="run",
                task_status=task_status,
            )
        self._printer.end()
        if self.manager.stopped_by is not None or self.state:
            await self._inputs.leave(self.manager.report())

    async def _operations(self) -> AsyncIterator[ShellOperation]:
        context = self._context()
        # Back-pressure from the reader of our output. We wait before an input is taken, so that
        # none is lost, and not in `prepare`, so that a run that stops meanwhile begins nothing.
        await self._wait_for_room(context)
        places = count(1)
        for left in await self._inputs.interrupted():
            self._interrupted.expect()
            yield ShellOperation(context, left.number, input_of(left), next(places), left)
            await self._wait_for_room(context)
        await self._interrupted.wait_all()
        async for number, given in self._inputs:
            yield ShellOperation(context, number, given, next(places))
            await self._wait_for_room(context)

    async def _wait_for_room(self, context: RunContext) -> None:
        await self._printer.wait_for_room()
        if context.slots is not None:
            await context.slots.wait_free()
        if self._plan.queue is not None:
            await self._plan.queue.wait_for_room()

    def _context(self) -> RunContext:
        plan = self._plan
        return RunContext(
            commands=plan.commands,
            time_limit=make_time_limit(plan.timeout),
            grace=make_time_limit(plan.grace),
            term_seq=plan.term_seq,
            cost=plan.starts.cost,
            room=plan.pace.make_room(self._progress.note),
            launcher=self._launcher,
            leftovers=self.leftovers,
            interrupted=self._interrupted,
            stopping=self._stopping,
            outlet=self._outlet,
            records=self.records,
            on_cleanup=self._halt_if_due,
            slots=self.slots if plan.uses_slots else None,
            on_end=self._halt_at_goal,
            jobs=self.jobs,
        )

    async def print_outputs(self) -> None:
        """Print the outputs of all operations, unless `limit_printing` gives up."""
        with self._printing:
            await self._printer.run(self._output_lost)

    async def limit_printing(self) -> None:
        """Give up printing a while after a cancelled run is over, as its reader may be stuck."""
        await self._cancelled.wait()
        await self._printer.ended.wait()
        await trio.sleep(PRINT_TIMEOUT)
        self._printing.cancel()

    async def act_on_signals(self, signals: AsyncIterator[int], turnstile: Turnstile) -> None:
        """Change the limit, drain the run or cancel it, as each signal asks."""
        async for signum in signals:
            if signum == signal.SIGCHLD:
                self._launcher.reap_orphans()
            elif signum == signal.SIGUSR1:
                turnstile.up(LIMITER)
            elif signum == signal.SIGUSR2:
                turnstile.down(LIMITER)
            elif self._stop_signal is None:
                self.stop(signal.Signals(signum), signal.Signals(signum).name)
            else:
                self.cancel()

    def stop(self, signum: signal.Signals, by: str) -> None:
        """Start nothing more, and let running operations finish; exit with the signal's status."""
        self._stop_signal = signum
        self._drain(f"{by}: {self._rest()}")

    def _rest(self) -> str:
        """Leave jobs running if the user wants that; return the note about running operations."""
        if self._plan.jobs is not None and self._plan.jobs.detach:
            self._stopping.leave_jobs()
            return "leaving the jobs running; the same command goes on with them"
        return (
            "starting nothing more, and letting running operations finish; a second signal "
            "cancels them"
        )

    async def watch_for_halt(self) -> None:
        """Stop, and tell the user, when failures halt the run."""
        try:
            await self.manager.wait_stopping()
        finally:
            self._interrupted.give_up()
        halt, error = self._plan.halt, self.manager.stopped_by
        if error is not None and error.phase == "ledger":
            self._lost_ledger = True
            self._drain(f"starting nothing more: {error.__cause__}")
        if self.state or halt is None or error is None or error.phase == "source":
            return
        self.state = "halting"
        report = self.manager.report()
        failures = len(report.errors) + report.errors_omitted
        self._progress.note(f"halting {halt.when}: {failures} failed")
        self._stop()

    def snapshot(self) -> ProgressSnapshot:
        """Return how far the run has come."""
        return ProgressSnapshot(
            limit=self._plan.limiter.total_tokens,
            running=self._plan.limiter.borrowed_tokens,
            completed=self.manager.completed,
            failed=self.manager.failed,
            skipped=self.manager.skipped + self._inputs.skipped,
            total=self._plan.inputs.total,
            state=self.state,
            cluster="" if self.jobs is None else self.jobs.describe(),
            why=self._why(),
        )

    def _why(self) -> str:
        """Return why an adaptive limit has its value."""
        bound = self._plan.limiter.statistics().bounds.get("policy")
        return "" if bound is None else str(bound.why.get("reason", ""))

    def summary(self) -> Summary:
        """Return the result of the run, which must be over."""
        report, inputs = self.manager.report(), self._plan.inputs
        cut_off = [each for each in report.cut_off if isinstance(each, ShellOperation)]
        given_up = [error for each in cut_off if (error := each.error_of_last_attempt())]
        not_started = [each for each in cut_off if not each.started and each.failure is None]
        kept = [*report.errors, *given_up][:ERRORS_SHOWN]
        return Summary(
            completed=report.completed,
            failed=report.failed + len(given_up),
            left_running=sum(each.goes_on for each in cut_off),
            skipped=report.skipped + self._inputs.skipped,
            started=report.received - len(not_started) - report.skipped,
            total=inputs.total,
            errors=kept,
            errors_omitted=(report.errors_omitted + len(report.errors) + len(given_up) - len(kept)),
            input_error=inputs.error or self._inputs.error,
            stop_signal=self._stop_signal,
            lost_output=self._lost_output,
            lost_log=self.records.lost,
            lost_ledger=self._lost_ledger,
            seconds=trio.current_time() - self._started,
            succeeded=self._at_goal,
        )

    def _drain(self, why: str) -> None:
        self.state = self.state or "draining"
        self._progress.note(why)
        self._stop()

    def _stop(self) -> None:
        """Give up waiting operations; running ones are shielded."""
        self._stopping.begin()
        self._halt_if_due()
        self.manager.cancel()

    def _halt_if_due(self) -> None:
        """Stop shielding if the failures halt the run now, even while the run drains."""
        halt = self._plan.halt
        if halt is not None and halt.when == "now" and self.manager.stopped_by is not None:
            self._stopping.cancel()

    def _halt_at_goal(self, completed: bool) -> None:
        self._ended += 1
        self._succeeded += completed
        goal = self._plan.goal
        if goal is None or self.state or not goal.is_reached(self._succeeded, self._ended):
            return
        self.state = "halting"
        self._at_goal = goal.of == "success"
        self._progress.note(
            f"halting {goal.when}: {self._succeeded} of {self._ended} operations completed"
        )
        self._stop()
        if goal.when == "now":
            self._stopping.cancel()

    def cancel(self) -> None:
        """Cancel running operations, and clean them up."""
        self.state = "cancelling"
        cleanups = "cleanup" in self._plan.commands
        rest = f"clean-ups may take {self._plan.grace} each" if cleanups else "ending all commands"
        self._progress.note(f"cancelled; {rest}")
        self._stopping.cancel()
        self.manager.cancel()
        self._cancelled.set()

    def _quit(self, signum: int, frame: object) -> None:
        self._launcher.kill_all()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    def _output_lost(self, error: OSError) -> None:
        self._lost_output = True
        self._drain(
            f"starting nothing more because standard output cannot be written: {error.strerror}"
        )
