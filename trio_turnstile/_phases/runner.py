"""Four-phase operations: prepare, work, monitor, cleanup; many at once.

`run_phases` takes each operation through its own phases, on the engine's worker pool.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, Required, TypedDict, Unpack

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.counts import Counts
from trio_turnstile._engine.durations import Tell
from trio_turnstile._engine.gate import Weight, window_of
from trio_turnstile._engine.listing import Listing
from trio_turnstile._engine.pacing import check_rate
from trio_turnstile._engine.policies import ErrorPolicy, Skip, as_policies
from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.recording import Recorder, RunLedger, recording
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import lent_tokens
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.sources import AnySource, open_source, reading
from trio_turnstile._engine.window import following
from trio_turnstile._limiting.budget import Budget
from trio_turnstile._limiting.either import (
    AnyLimiter,
)
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._limiting.shared import ByKey
from trio_turnstile._util import check_instance, check_seconds, hold, unwrapped_interrupts

from .entries import open_entries
from .grace import Grace
from .manager import Manager, Report
from .operation_run import OperationRunner, describe_failure
from .recorded import RecordedRunner, outcomes_done
from .scalable import PHASES, Phase, PhaseTimeouts, Scalable
from .telemetry import Telemetry


@enable_ki_protection
async def run_phases(
    operations: AnySource[Scalable],
    *,
    limiter: AnyLimiter | ByKey[Any] | int,
    weight: Weight | None = None,
    prepare_limiter: AnyLimiter | int | None = None,
    on_error: ErrorPolicy | Iterable[ErrorPolicy] = Skip(),  # noqa: B008 (frozen)
    timeouts: PhaseTimeouts = PhaseTimeouts(),  # noqa: B008 (frozen)
    cleanup_grace: float = 30.0,
    counting: Literal["runner", "phases"] = "runner",
    max_errors: int = 10_000,
    window: int | None = None,
    rate: RateLimiter | Budget | None = None,
    cost: Callable[[Any], float | Mapping[str, float]] | None = None,
    ledger: RunLedger | None = None,
    retry_failed: bool = False,
    name: str | None = None,
    task_status: trio.TaskStatus[Manager] = trio.TASK_STATUS_IGNORED,
) -> Report:
    """Take operations through their phases, many at once but never too many.

    Each goes through its own phases in order and waits for no other operation. A
    retry starts again at prepare.

    Args:
      operations: an iterable, async iterable or memory channel of operations. It is read
        lazily: a million operations need no more memory than the window.
      limiter: bounds how many are between prepare and the end of monitor. With the keys of
        a `SharedLimiter` (`SharedLimiter.by`), each operation takes the token of its key.
      weight: how many tokens of the limiter an operation takes: a number, or a function of the
        operation. An operation that needs more than the limit fails with `TooWide`.
      prepare_limiter: if given, preparing takes a token of this limiter instead, and
        runs ahead of the work as far as the window allows.
      on_error: the policies for errors, asked in order, or a single policy; the first verdict
        counts, and if there is none, the run is aborted. By default, an operation that
        fails is recorded and the rest go on.
      timeouts: how long each phase may take.
      cleanup_grace: seconds that a clean-up may take.
      counting: who counts working, completed and failed: the runner, or the phases
        through their channels.
      max_errors: how many errors to keep.
      window: the most operations in hand, whether they run, wait, back off or
        clean up. By default it follows the limits, with room for 64 more.
      rate: how many operations, retries included, may begin each second. With ``cost`` it
        may be a `Budget`.
      cost: a function of an operation: how much it takes of the rate, if not one. It returns a
        number, or for a `Budget` the amounts by name. A phase may correct it with
        `Budget.settle`. If the function raises, or returns more than the burst, the operation
        fails, and none of its phases begins.
      ledger: where to note what becomes of each operation, by its `Scalable.identity`; see
        `open_ledger`. Operations that have ended in an earlier run are skipped. Interrupted
        operations are first cleaned up and then done again, or go on as `Scalable.recall` says.
      retry_failed: whether to do operations again that have failed in an earlier run, or were
        sent away as dead letters. By default they are skipped too.
      name: the name of the run, ``"phases"`` by default; see `Turnstile.runs`.
      task_status: for ``nursery.start``, which returns the `Manager`.

    Returns:
      The report of the run.

    Raises:
      Aborted: the errors that stopped the run: because the policies said so, because the
        source failed, or because a limiter was closed. If the source fails, or the ledger
        cannot be written, what is in hand is finished first.
      TypeError, ValueError: for arguments of a wrong type or value.

    Cancellation:
      What is in hand is cancelled and counted as such, and its clean-ups run,
      shielded, for at most ``cleanup_grace`` seconds.
    """
    check_seconds("cleanup_grace", cleanup_grace)
    check_instance("timeouts", timeouts, PhaseTimeouts, "PhaseTimeouts(work=10)")
    check_rate(rate, cost)
    if counting not in ("runner", "phases"):
        raise ValueError(f"counting must be 'runner' or 'phases', not {counting!r}")
    policies = as_policies(on_error)
    entries = open_entries(limiter, prepare_limiter, weight)
    state, counts, grace = RunState(max_errors), Counts(), Grace(cleanup_grace)
    listing = Listing(name, "phases", state, entries.limiters)
    listing.expect(operations)
    telemetry = Telemetry(state.record)
    attempts = Attempts(
        policies,
        counts=counts,
        state=state,
        describe=describe_failure,
        tokens=entries.first,
        rate=rate,
        cost=cost,
    )
    runner = OperationRunner(
        attempts,
        state=state,
        channels=telemetry.channels,
        timeouts=timeouts,
        grace=grace,
        entries=entries,
        policies=policies,
        tellers=_tellers(listing),
    )
    source = open_source(operations)
    told = telemetry if counting == "phases" else None
    manager = Manager(entries.limiter, state, counts, told, listing)
    async with lent_tokens(entries.limiters), recording(ledger) as recorder:
        pool = WorkerPool[Any](
            source,
            _recorded(runner, recorder, retry_failed=retry_failed, has_rate=rate is not None),
            entries.first,
            counts=counts,
            window=window_of(counts, window, following(entries.limiters), entries.gate),
            state=state,
            pace=attempts.pace,
            admits_in_turn=True,
            gate=entries.gate,
            refuse=runner.refuse,
        )
        state.at_drain(pool.stop_source)
        with listing.listed(manager, entries.own):
            await _carry_out(
                pool,
                source,
                state=state,
                telemetry=telemetry,
                grace=grace,
                started=partial(task_status.started, manager),
            )
    report = manager.report()
    return state.conclude(
        f"run_phases was stopped: of {report.received} operations {report.completed} completed, "
        f"{report.failed} failed, {report.cancelled} were cancelled",
        report,
    )


def _tellers(listing: Listing) -> dict[Phase, Tell] | None:
    """Return who is told how long each phase takes, if anybody is."""
    told: dict[Phase, Tell] = {}
    for phase in PHASES:
        tell = listing.teller(phase)
        if tell is not None:
            told[phase] = tell
    return told or None


def _recorded(
    runner: OperationRunner, recorder: Recorder | None, *, retry_failed: bool, has_rate: bool
) -> OperationRunner | RecordedRunner:
    if recorder is None:
        return runner
    return RecordedRunner(runner, recorder, outcomes_done(retry_failed=retry_failed), has_rate)


class PhaseOptions(TypedDict, total=False):
    """The options of `run_phases`, as `start_phases` takes them."""

    limiter: Required[AnyLimiter | ByKey[Any] | int]
    weight: Weight | None
    prepare_limiter: AnyLimiter | int | None
    on_error: ErrorPolicy | Iterable[ErrorPolicy]
    timeouts: PhaseTimeouts
    cleanup_grace: float
    counting: Literal["runner", "phases"]
    max_errors: int
    window: int | None
    rate: RateLimiter | Budget | None
    cost: Callable[[Any], float | Mapping[str, float]] | None
    ledger: RunLedger | None
    retry_failed: bool
    name: str | None


@asynccontextmanager
@enable_ki_protection
async def start_phases(
    operations: AnySource[Scalable], **options: Unpack[PhaseOptions]
) -> AsyncIterator[Manager]:
    """Run operations beside a block, which gets the `Manager`.

    Leaving the block waits for the end of the run. If the block raises, the run is cancelled,
    and the exception comes out unchanged. This is also true of `KeyboardInterrupt`, which a
    nursery would wrap in a group.

    Args:
      operations: as for `run_phases`.
      **options: as for `run_phases`.

    Raises:
      Aborted: as `run_phases` does; in that case the block is cancelled.
    """
    block = trio.CancelScope()

    def run(task_status: trio.TaskStatus[Manager]) -> Awaitable[Report]:
        return run_phases(operations, **options, task_status=task_status)

    async with hold(run, on_abort=block.cancel) as manager:
        with block:
            yield manager


@enable_ki_protection
async def _carry_out(
    pool: WorkerPool[Any],
    source: RunSource[object],
    *,
    state: RunState,
    telemetry: Telemetry,
    grace: Grace,
    started: Callable[[], None],
) -> None:
    """Run the pool, and what has to run beside it; then close the books."""
    try:
        with unwrapped_interrupts():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(telemetry.run)
                # The watch is shielded, like clean-ups, so from here on it has to be
                # dismissed, or the nursery would never end.
                try:
                    nursery.start_soon(grace.watch)
                    started()
                    async with reading(source, state):
                        with state.scope:
                            await pool.run()
                finally:
                    grace.dismiss()
                nursery.cancel_scope.cancel()
    finally:
        pool.close_books()
        telemetry.close()
        state.end()
