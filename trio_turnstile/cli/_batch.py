"""A batch: what is asked of a run, and the run itself, up to its exit status."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import final

import attrs
import trio

from trio_turnstile import (
    Aborted,
    ConcurrentError,
    Decision,
    ErrorPolicy,
    Event,
    Halt,
    Limiter,
    Manager,
    Phase,
    Reason,
    Retry,
    Skip,
    Stop,
    Turnstile,
    open_turnstile,
    run_phases,
)

from ._inputs import Inputs
from ._joblog import Entry, JobLog
from ._outcome import Outcome
from ._output import Printer
from ._progress import Standing, open_progress
from ._shell import CommandFailed, ShellOperation, Workshop
from ._template import Template
from ._units import Duration

ERRORS_SHOWN = 20
"""How many errors are shown at the end."""

PARTING = 2.0
"""Seconds to print what is left after a run was cancelled."""


@final
@attrs.frozen(kw_only=True)
class Plan:
    """What is asked of a run."""

    inputs: Inputs
    """What to run the commands for."""
    commands: Mapping[Phase, Template]
    """The commands by phase."""
    limiter: Limiter
    """Bounds how many operations run at a time."""
    timeout: float | None
    """Seconds that each command but the clean-up may take; ``None`` for any time."""
    grace: Duration
    """Seconds that a clean-up may take."""
    kill_after: float
    """Seconds from a SIGTERM to a SIGKILL."""
    retries: int
    """How many times to try again what failed."""
    halt: Halt | None
    """After which failures to stop; ``None`` for none."""
    joblog: JobLog | None
    """Where to log operations."""
    quiet: bool
    """Whether to leave out how far the run has come."""


@final
class Batch:
    """A run of a plan; made in a trio run, and run once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._joblog = plan.joblog
        self._progress = open_progress(self._look, quiet=plan.quiet)
        self._printer = Printer(self._progress, self._output_lost)
        self._printing = trio.CancelScope()
        self._work = trio.CancelScope()
        self._began = trio.current_time()
        self._state = ""  # how the run is being ended, once it is
        self._over = False
        self._lost_output = False
        self._stopped_by: signal.Signals | None = None
        self._begun = self._turned_away = 0
        self._source_error: ConcurrentError | None = None
        self._manager: Manager

    async def run(self) -> int:
        """Run it, say what became of it, and return the exit status."""
        with trio.open_signal_receiver(*_signals()) as signals:
            async with open_turnstile(observers=[self._observe]) as turnstile:
                turnstile.add(self._plan.limiter)
                async with trio.open_nursery() as services:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._print)
                        self._manager = await nursery.start(self._operate)
                        services.start_soon(self._listen, signals, turnstile)
                        services.start_soon(self._progress.run)
                        services.start_soon(self._plan.inputs.read)
                    services.cancel_scope.cancel()
            return self._sum_up()

    # ---- the tasks ----

    async def _operate(self, task_status: trio.TaskStatus[Manager]) -> None:
        plan = self._plan
        try:
            with self._work:
                await run_phases(
                    self._operations(),
                    limiter=plan.limiter,
                    on_error=self._policies(),
                    # The command has its own limit; this one is for what surrounds it.
                    cleanup_grace=plan.grace + plan.kill_after + 10,
                    max_errors=ERRORS_SHOWN,
                    task_status=task_status,
                )
        except Aborted as aborted:
            for error in aborted.exceptions:
                if isinstance(error, ConcurrentError) and error.phase == "source":
                    self._source_error = error
        self._over = True
        self._printer.end()
        self._part_if_cancelled()

    async def _operations(self) -> AsyncIterator[ShellOperation]:
        plan = self._plan
        shop = Workshop(
            commands=plan.commands,
            timeouts={
                "prepare": plan.timeout,
                "work": plan.timeout,
                "monitor": plan.timeout,
                "cleanup": plan.grace,
            },
            kill_after=plan.kill_after,
            printer=self._printer,
            may_begin=self._may_begin,
            log=self._log,
        )
        async for text in plan.inputs:
            yield ShellOperation(shop, plan.inputs.taken, text)

    async def _print(self) -> None:
        with self._printing:
            await self._printer.run()

    async def _listen(self, signals: AsyncIterator[int], turnstile: Turnstile) -> None:
        async for signum in signals:
            if signum == signal.SIGUSR1:
                turnstile.up()
            elif signum == signal.SIGUSR2:
                turnstile.down()
            elif self._stopped_by is None:
                self._drain(signal.Signals(signum))
            else:
                self._cancel()

    # ---- an end before the end ----

    def _drain(self, signum: signal.Signals) -> None:
        self._stopped_by = signum
        self._stop(f"{signum.name}: no more is begun, what runs may finish; once more cancels it")

    def _stop(self, why: str) -> None:
        self._state = self._state or "draining"
        self._manager.drain()
        self._progress.note(why)

    def _cancel(self) -> None:
        self._state = "cancelling"
        self._progress.note(f"cancelled; clean-ups may take {self._plan.grace} each")
        self._work.cancel()
        self._part_if_cancelled()

    def _part_if_cancelled(self) -> None:
        if self._over and self._work.cancel_called:
            self._printing.deadline = trio.current_time() + PARTING

    def _output_lost(self, error: OSError) -> None:
        self._lost_output = True
        self._stop(f"no more is begun, as standard output cannot be written: {error.strerror}")

    def _judged(self, verdict: Stop | None) -> None:
        manager = self._manager
        settled = manager.received - manager.working
        if verdict and not self._state and verdict.due(manager.failed + 1, settled + 1):
            self._state = "halting"
            self._progress.note(f"halting {verdict.when}: {manager.failed + 1} failed")

    def _may_begin(self) -> bool:
        # The engine may have one in hand that has not begun.
        if self._state:
            self._turned_away += 1
        else:
            self._begun += 1
        return not self._state

    # ---- what is told ----

    def _policies(self) -> list[ErrorPolicy]:
        halt = self._plan.halt
        retry = Retry(self._plan.retries, on=(CommandFailed, OSError))
        return [retry, Skip() if halt is None else _Heard(halt, self._judged)]

    def _look(self) -> Standing:
        return Standing(
            limit=self._plan.limiter.total_tokens,
            running=self._plan.limiter.borrowed_tokens,
            completed=self._manager.completed - self._turned_away,
            failed=self._manager.failed,
            total=self._plan.inputs.total,
            state=self._state,
        )

    def _observe(self, event: Event) -> None:
        if not isinstance(event, Decision) or event.signal is None:
            return
        if event.applied:
            return self._progress.note(f"limit {event.before} -> {event.after}")
        why = {
            Reason.HOLDING: f"--hold has {event.evidence.get('hold_left', 0):.1f} s to go",
            Reason.AT_CEILING: "that is --max",
            Reason.AT_MINIMUM: "that is --min",
        }[event.reason]
        self._progress.note(f"limit stays {event.after}: {event.signal.value} refused, {why}")

    def _log(self, entry: Entry) -> None:
        if self._joblog is None:
            return
        try:
            self._joblog.add(entry)
        except OSError as error:
            self._joblog = None
            self._progress.note(f"the job log is written no further: {error.strerror}")

    def _sum_up(self) -> int:
        report, inputs = self._manager.report(), self._plan.inputs
        outcome = Outcome(
            completed=report.completed - self._turned_away,
            failed=report.failed,
            begun=self._begun,
            total=inputs.total,
            errors=report.errors,
            errors_omitted=report.errors_omitted,
            source_error=self._source_error,
            stopped_by=self._stopped_by,
            lost_output=self._lost_output,
            seconds=trio.current_time() - self._began,
        )
        for text in outcome.describe_errors():
            self._progress.note(text)
        if not self._plan.quiet:
            self._progress.note(str(outcome))
        return outcome.status


@final
@attrs.frozen
class _Heard:
    """A `Halt` whose verdicts are heard as well: nothing else tells when it halts the run."""

    halt: Halt
    hear: Callable[[Stop | None], object]

    def decide(self, error: ConcurrentError, /) -> Stop | None:
        verdict = self.halt.decide(error)
        self.hear(verdict)
        return verdict


def _signals() -> list[signal.Signals]:
    """The signals to act on; a SIGHUP that nohup(1) has us ignore stays ignored."""
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    return signals
