"""Four-phase operations: prepare, work, monitor, cleanup; many at a time.

`run_phases` takes each operation through its own phases, on the engine's worker pool.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, Required, TypedDict, Unpack

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.counts import Counts
from trio_turnstile._engine.durations import Tell
from trio_turnstile._engine.listing import Listing
from trio_turnstile._engine.policies import ErrorPolicy, Skip, as_policies
from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.recording import Recorder, RunLedger, recording
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import lent_tokens
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.sources import AnySource, open_source, reading
from trio_turnstile._engine.window import Window, following
from trio_turnstile._limiting.either import (
    AnyLimiter,
    Tokens,
    as_limiter,
    made_of_number,
    tokens_of,
)
from trio_turnstile._limiting.limiter import Limiter
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._util import check_instance, check_seconds, hold, unwrapped_interrupts

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
    limiter: AnyLimiter | int,
    prepare_limiter: AnyLimiter | int | None = None,
    on_error: ErrorPolicy | Iterable[ErrorPolicy] = Skip(),  # noqa: B008 (frozen)
    timeouts: PhaseTimeouts = PhaseTimeouts(),  # noqa: B008 (frozen)
    cleanup_grace: float = 30.0,
    counting: Literal["runner", "phases"] = "runner",
    max_errors: int = 10_000,
    window: int | None = None,
    rate: RateLimiter | None = None,
    ledger: RunLedger | None = None,
    retry_failed: bool = False,
    name: str | None = None,
    task_status: trio.TaskStatus[Manager] = trio.TASK_STATUS_IGNORED,
) -> Report:
    """Take operations through their phases, many at a time, never too many.

    Each goes through its own phases in order and waits for no other operation. A
    retry starts again at prepare.

    Args:
      operations: an iterable, async iterable or memory channel of them. It is read
        lazily: a million operations need no more memory than the window.
      limiter: bounds how many are between prepare and the end of monitor.
      prepare_limiter: if given, preparing takes a token of this one instead, and
        runs ahead of the work as far as the window allows.
      on_error: the policies for errors, or one, asked in order; the first verdict holds,
        and if all are silent the run is aborted. By default an operation that
        fails is recorded and the rest go on.
      timeouts: how long each phase may take.
      cleanup_grace: seconds that a clean-up may take.
      counting: who counts working, completed and failed: the runner, or the phases
        by their channels.
      max_errors: how many errors to keep.
      window: the most operations in hand, whether they run, wait, back off or
        clean up. By default it follows the limits, with room for 64 more.
      rate: how many operations, retries included, may be begun each second.
      ledger: where to note what becomes of each operation, by its `Scalable.identity`; see
        `open_ledger`. Operations that have ended in an earlier run are skipped. Those that
        were interrupted are cleaned up first, and then done again, or go on as
        `Scalable.recall` says.
      retry_failed: whether to do operations again that have failed in an earlier run, or were
        sent away as dead letters. By default they are skipped too.
      name: the name of the run, ``"phases"`` by default; see `Turnstile.runs`.
      task_status: for ``nursery.start``, which returns the `Manager`.

    Returns:
      The account of the run.

    Raises:
      Aborted: the errors that stopped the run: by a verdict of the policies, of
        ``operations`` itself, or because a limiter was closed. If the source fails,
        what is in hand is finished first. So too if the ledger cannot be written.
      TypeError, ValueError: for arguments of a wrong type or value.

    Cancellation:
      What is in hand is cancelled and counted as such, and its clean-ups run,
      shielded, for at most ``cleanup_grace`` seconds.
    """
    check_seconds("cleanup_grace", cleanup_grace)
    check_instance("timeouts", timeouts, PhaseTimeouts, "PhaseTimeouts(work=10)")
    if rate is not None:
        check_instance("rate", rate, RateLimiter, "RateLimiter(10)")
    if counting not in ("runner", "phases"):
        raise ValueError(f"counting must be 'runner' or 'phases', not {counting!r}")
    policies = as_policies(on_error)
    tokens = entry = tokens_of(as_limiter(limiter, "limiter", "work"))
    if prepare_limiter is not None:
        entry = tokens_of(as_limiter(prepare_limiter, "prepare_limiter", "prepare"))
    limiters = {entry.limiter, tokens.limiter}
    state, counts, grace = RunState(max_errors), Counts(), Grace(cleanup_grace)
    listing = Listing(name, "phases", state, limiters)
    listing.expect(operations)
    telemetry = Telemetry(state.record)
    attempts = Attempts(
        policies, counts=counts, state=state, describe=describe_failure, tokens=entry, rate=rate
    )
    runner = OperationRunner(
        attempts,
        state=state,
        channels=telemetry.channels,
        timeouts=timeouts,
        grace=grace,
        work_tokens=None if entry is tokens else tokens,
        policies=policies,
        tellers=_tellers(listing),
    )
    source = open_source(operations)
    told = telemetry if counting == "phases" else None
    manager = Manager(tokens.limiter, state, counts, told, listing)
    async with lent_tokens(limiters), recording(ledger) as recorder:
        pool = WorkerPool[Any](
            source,
            _recorded(runner, recorder, retry_failed=retry_failed, has_rate=rate is not None),
            entry,
            counts=counts,
            window=Window(counts, window, following(limiters)),
            state=state,
            rate=rate,
            admits_in_turn=True,
        )
        state.at_drain(pool.stop_source)
        own = _own_limiters(work=(limiter, tokens), prepare=(prepare_limiter, entry))
        with listing.listed(manager, own):
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


def _own_limiters(**parts: tuple[object, Tokens]) -> dict[str, Limiter]:
    """Return the limiters that were made of bare numbers, by what they bound."""
    made = {
        name: made_of_number(given, made.limiter)
        for name, (given, made) in parts.items()
        if given is not None
    }
    return {name: limiter for name, limiter in made.items() if limiter is not None}


def _recorded(
    runner: OperationRunner, recorder: Recorder | None, *, retry_failed: bool, has_rate: bool
) -> OperationRunner | RecordedRunner:
    if recorder is None:
        return runner
    return RecordedRunner(runner, recorder, outcomes_done(retry_failed=retry_failed), has_rate)


class PhaseOptions(TypedDict, total=False):
    """The options of `run_phases`, as `start_phases` takes them."""

    limiter: Required[AnyLimiter | int]
    prepare_limiter: AnyLimiter | int | None
    on_error: ErrorPolicy | Iterable[ErrorPolicy]
    timeouts: PhaseTimeouts
    cleanup_grace: float
    counting: Literal["runner", "phases"]
    max_errors: int
    window: int | None
    rate: RateLimiter | None
    ledger: RunLedger | None
    retry_failed: bool
    name: str | None


@asynccontextmanager
@enable_ki_protection
async def start_phases(
    operations: AnySource[Scalable], **options: Unpack[PhaseOptions]
) -> AsyncIterator[Manager]:
    """Run operations beside a block, which is given the `Manager`.

    Leaving the block waits for the end of the run. If the block raises, the run is cancelled,
    and the exception comes out unchanged; `KeyboardInterrupt` too, which would come in a group
    out of a nursery.

    Args:
      operations: as for `run_phases`.
      **options: as for `run_phases`.

    Raises:
      Aborted: as `run_phases` does; the block is cancelled then.
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
    """Run the pool and what has to run beside it, then close the books."""
    try:
        with unwrapped_interrupts():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(telemetry.run)
                # The watch is shielded, as clean-ups are: from here on it has to be
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
