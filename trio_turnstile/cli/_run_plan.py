"""One run of ``turnstile run``: from a `Plan` to the exit status."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_turnstile import Ledger, open_turnstile

from ._command_run import CommandRun
from ._control import serve
from ._decisions import DecisionNotes
from ._keeping import keep_overrides, open_kept
from ._on_finish import run_unless_stopped
from ._open_progress import open_progress
from ._plan import Plan
from ._progress import Progress
from ._recording import record
from ._signals import STOPS, heeded, leave
from ._steered import SteeredRun
from ._summary import Summary
from ._threads import in_thread

if TYPE_CHECKING:
    from ._jobs import Jobs

HURRY = 1.0
"""Seconds to finish writing, after a stop signal that comes when the run is over."""


async def run_plan(plan: Plan) -> int:
    """Run a plan, report to standard error, and return the exit status.

    Raises:
      UsageError: if the ledger cannot be opened, or the run cannot be recorded.
    """
    async with open_kept(plan.keeping) as ledger:
        status = await _run(plan, ledger)
    # When trio ends, it closes its wake-up socket before it resets the wake-up descriptor. A signal
    # in between would print a traceback.
    signal.set_wakeup_fd(-1)
    return status


async def _run(plan: Plan, ledger: Ledger | None) -> int:
    progress = open_progress(quiet=plan.quiet, live=not plan.output.ungroup)
    run = CommandRun(plan, progress, ledger)
    if plan.limiter_note is not None and not plan.quiet:
        progress.note(plan.limiter_note)
    with trio.open_signal_receiver(*_signals()) as signals, run.opened():
        observers = [DecisionNotes(progress).note, run.slots.look_again]
        async with open_turnstile(observers=observers, name=plan.title) as turnstile:
            turnstile.add(plan.limiter)
            if plan.queue is not None:
                turnstile.add(plan.queue.limiter)
            await keep_overrides(ledger, turnstile)
            async with (
                record(plan.statistics, turnstile, progress.note) as history,
                _open_jobs(plan, ledger, progress) as run.jobs,
                trio.open_nursery() as services,
            ):
                async with trio.open_nursery() as nursery:
                    run.manager = await nursery.start(run.run_operations)
                    nursery.start_soon(run.print_outputs)
                    services.start_soon(plan.inputs.read)
                    services.start_soon(progress.run, run.snapshot)
                    services.start_soon(run.act_on_signals, signals, turnstile)
                    services.start_soon(run.watch_for_halt)
                    services.start_soon(run.limit_printing)
                    services.start_soon(run.leftovers.run)
                    if not plan.control.no_control:
                        steered = SteeredRun(run, plan.inputs)
                        services.start_soon(steered.keep_deadline)
                        port, note = plan.control.dashboard, progress.note
                        services.start_soon(serve, turnstile, steered, history, note, port)
                services.cancel_scope.cancel()
        leave.over = True
        run.records.close()
        summary = run.summary()
        status = _conclude(summary, progress, quiet=plan.quiet)
        await run_unless_stopped(plan.output.on_finish, summary, progress.note, signals)
        await _flush(progress, signals, run.patience)
    return status


@asynccontextmanager
async def _open_jobs(
    plan: Plan, ledger: Ledger | None, progress: Progress
) -> AsyncIterator[Jobs | None]:
    """Open the cluster of the run, if it has one."""
    if plan.jobs is None:
        yield None
        return
    from ._jobs import open_jobs

    opening = open_jobs(
        plan.jobs,
        running=plan.limiter,
        shell=plan.shell,
        follow=plan.output.shows_lines,
        note=progress.note,
        settled=trio.lowlevel.checkpoint if ledger is None else partial(ledger.leave, ()),
    )
    async with opening as jobs:
        yield jobs


async def _flush(progress: Progress, signals: AsyncIterator[int], patience: float) -> None:
    """Wait until everything is written; another stop signal cuts the wait short."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + patience
        nursery.start_soon(_hurry_on_stop, signals, nursery.cancel_scope)
        await in_thread(progress.flush)
        nursery.cancel_scope.cancel()


async def _hurry_on_stop(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for signum in signals:
        if signum in STOPS:
            scope.deadline = min(scope.deadline, trio.current_time() + HURRY)


def _conclude(summary: Summary, progress: Progress, *, quiet: bool) -> int:
    for text in summary.describe_errors():
        progress.note(text)
    if not quiet:
        progress.note(str(summary))
    return summary.status


def _signals() -> list[signal.Signals]:
    return [*heeded(STOPS), signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD]
