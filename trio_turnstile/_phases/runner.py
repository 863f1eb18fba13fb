"""Four-phase operations: prepare, work, monitor, cleanup; many at a time.

`run_phases` takes each operation through its own phases, on the engine's worker pool. The
token is held from prepare through monitor, as work that was handed to a cluster
still counts. Clean-up holds none. It is shielded from cancellation, for a bounded
time, and runs once for every operation whose prepare began, whatever happened.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Literal, Required, TypedDict, Unpack, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.beginnings import timed
from trio_turnstile._engine.counts import Counts, Fate
from trio_turnstile._engine.policies import ErrorPolicy, Skip, as_policies
from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import Slot, lent_tokens
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.sources import AnySource, open_source, reading
from trio_turnstile._engine.window import Window, following
from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._limiting.either import AnyLimiter, Tokens, as_limiter, tokens_of
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._texts import shown
from trio_turnstile._util import (
    check_instance,
    check_seconds,
    hold,
    refuse_stray,
    stray,
    unwrapped_interrupts,
)

from .grace import Grace
from .manager import Manager, Report
from .scalable import Channels, PhaseTimeouts, Scalable
from .telemetry import Telemetry

_COMPLETED, _CANCELLED = Fate.COMPLETED, Fate.CANCELLED


@final
class _Runner:
    """Runs one operation through its phases. The pool calls it concurrently."""

    admit = recover = follow = leave = None

    def __init__(
        self,
        attempts: Attempts[Scalable],
        *,
        state: RunState,
        channels: Channels,
        timeouts: PhaseTimeouts,
        grace: Grace,
        work_tokens: Tokens | None,
        policies: Iterable[ErrorPolicy],
    ) -> None:
        self._attempts = attempts
        self._try = timed(self._attempt, policies)
        self._state = state
        self._channels = channels
        self._timeouts = timeouts
        self._grace = grace
        self._work_tokens = work_tokens
        """What work needs one of, if preparing has tokens of its own."""

    @enable_ki_protection
    async def handle(self, operation: object, slot: Slot) -> None:
        """Take the operation through all phases, with retries, and clean up."""
        if not isinstance(operation, Scalable):
            return self._reject(operation, slot)  # noqa: ASYNC910 (the worker goes on)
        if self._state.stopping:
            return  # noqa: ASYNC910 (not begun: the slot's fate is still "cancelled")
        try:
            try:
                slot.fate = await self._try(operation, slot)
            except Exception as error:
                slot.fate = await self._attempts.recover(operation, slot, error, self._try)
        finally:
            # No shield where there is nothing to do: it costs 2 µs. Then the worker gives the
            # token back.
            if getattr(operation.cleanup, "__func__", None) is not Scalable.cleanup:
                if slot.fate is _CANCELLED:
                    slot.release_cancelled()
                else:
                    slot.release()
                await self._clean_up(operation, slot)

    @disable_ki_protection
    async def _attempt(self, operation: Scalable, slot: Slot) -> Fate:
        # The phases are called here if they have no timeout: one more call for each made an
        # operation of no-ops 1.04 times as slow.
        channels, limit = self._channels, self._timeouts
        try:
            slot.phase, call, seconds = "prepare", operation.prepare, limit.prepare
            await (call(channels) if seconds is None else _within(seconds, call, channels))
            if self._work_tokens is not None:
                slot.release()
                await slot.acquire(self._work_tokens)
            slot.phase, call, seconds = "work", operation.work, limit.work
            await (call(channels) if seconds is None else _within(seconds, call, channels))
            slot.phase, call, seconds = "monitor", operation.monitor, limit.monitor
            await (call(channels) if seconds is None else _within(seconds, call, channels))
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise
        return _COMPLETED

    @enable_ki_protection
    async def _clean_up(self, operation: Scalable, slot: Slot) -> None:  # noqa: ASYNC910
        slot.phase = "cleanup"
        try:
            await self._grace.shield(slot.scope, operation.cleanup, self._channels)
        except Exception as error:
            self._cleanup_failed(error, operation, slot)
        except trio.Cancelled as cancelled:
            kept = stray(cancelled)
            if kept is None:
                raise
            self._cleanup_failed(kept, operation, slot)
        finally:
            if slot.scope.cancel_called:
                slot.cancelled = True
                too_slow = f"it took more than its {self._grace.seconds} seconds"
                self._cleanup_failed(trio.TooSlowError(too_slow), operation, slot)

    def _reject(self, operation: object, slot: Slot) -> None:
        slot.fate = Fate.FAILED
        error = describe(
            TypeError(f"an operation must be a Scalable, not {shown(operation)}"),
            item=operation,
            phase="source",
        )
        self._state.stop(error, "soon")

    def _cleanup_failed(self, error: Exception, operation: Scalable, slot: Slot) -> None:
        if slot.fate is Fate.COMPLETED:
            slot.fate = Fate.FAILED
        self._attempts.fail(_describe(error, operation, slot))


async def _within(
    seconds: float, phase: Callable[[Channels], Awaitable[None]], channels: Channels
) -> None:
    # `trio.fail_after` sets the traceback of an error that passes, which some errors refuse.
    with trio.move_on_after(seconds) as scope:
        await phase(channels)
    if scope.cancelled_caught:
        raise trio.TooSlowError


def _describe(error: Exception, operation: Scalable, slot: Slot) -> ConcurrentError:
    identifiers: object = ()
    with suppress(Exception):
        identifiers = operation.identifiers
    return describe(error, item=operation, phase=slot.phase, identifiers=identifiers)


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
      task_status: for ``nursery.start``, which returns the `Manager`.

    Returns:
      The account of the run.

    Raises:
      Aborted: the errors that stopped the run: by a verdict of the policies, of
        ``operations`` itself, or because a limiter was closed. If the source fails,
        what is in hand is finished first.
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
    tokens = entry = tokens_of(as_limiter(limiter, "limiter"))
    if prepare_limiter is not None:
        entry = tokens_of(as_limiter(prepare_limiter, "prepare_limiter"))
    limiters = {entry.limiter, tokens.limiter}
    state, counts, grace = RunState(max_errors), Counts(), Grace(cleanup_grace)
    telemetry = Telemetry(state.record)
    attempts = Attempts(
        policies, counts=counts, state=state, describe=_describe, tokens=entry, rate=rate
    )
    source = open_source(operations)
    pool = WorkerPool[Any](
        source,
        _Runner(
            attempts,
            state=state,
            channels=telemetry.channels,
            timeouts=timeouts,
            grace=grace,
            work_tokens=None if entry is tokens else tokens,
            policies=policies,
        ),
        entry,
        counts=counts,
        window=Window(counts, window, following(limiters)),
        state=state,
        rate=rate,
    )
    state.at_drain(pool.stop_source)
    told = telemetry if counting == "phases" else None
    manager = Manager(tokens.limiter, state, counts, told)
    async with lent_tokens(limiters):
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
