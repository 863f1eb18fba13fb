"""Four-phase operations: prepare, work, monitor, cleanup; many at a time.

`run_phases` takes each operation through its own phases, on the stage engine. The
token is held from prepare through monitor, as work that was handed to a cluster
still counts. Clean-up holds none. It is shielded from cancellation, for a bounded
time, and runs once for every operation whose prepare began, whatever happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.policies import ErrorPolicy, Skip
from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import CUT_OFF, Slot
from trio_turnstile._engine.sources import AnySource, open_source
from trio_turnstile._errors import Aborted, ConcurrentError, describe, interruption
from trio_turnstile._limiting.either import AnyLimiter, as_limiter
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._util import check_seconds

from .grace import Grace
from .manager import Manager, Report
from .scalable import Channels, Phase, PhaseTimeouts, Scalable


@final
class _Runner:
    """Takes one operation through its phases; a `WorkerPool` has it do so with many at a time."""

    attempts: Attempts[Scalable]

    def __init__(
        self,
        manager: Manager,
        timeouts: PhaseTimeouts,
        grace: Grace,
        prepares_apart: bool,
    ) -> None:
        self._manager = manager
        self._channels = manager._telemetry.channels
        self._timeouts = timeouts
        self._grace = grace
        self._prepares_apart = prepares_apart

    @enable_ki_protection
    async def handle(self, operation: object, slot: Slot) -> None:
        """Take the operation through all phases, with retries, and clean up."""
        if not isinstance(operation, Scalable):
            return self._reject(operation, slot)  # noqa: ASYNC910 (the worker goes on)
        try:
            try:
                await self._attempt(operation, slot)
                slot.fate = "completed"
            except ConcurrentError as error:
                lost = await self.attempts.recover(operation, slot, error, self._attempt)
                slot.fate = "completed" if lost is None else lost.value
        finally:
            slot.release(CUT_OFF if slot.fate == "cancelled" else None)
            # No shield where there is nothing to do: it costs 2 µs.
            if type(operation).cleanup is not Scalable.cleanup:
                await self._clean_up(operation, slot)

    @disable_ki_protection
    async def _attempt(self, operation: Scalable, slot: Slot) -> None:
        phase: Phase = "prepare"
        try:
            await self._run(operation.prepare, self._timeouts.prepare)
            if self._prepares_apart:
                slot.release()
                await slot.acquire(self._manager.limiter)
            phase = "work"
            await self._run(operation.work, self._timeouts.work)
            phase = "monitor"
            await self._run(operation.monitor, self._timeouts.monitor)
        except Exception as error:
            raise _describe(error, operation, phase) from error

    def _run(
        self, phase: Callable[[Channels], Awaitable[None]], timeout: float | None
    ) -> Awaitable[None]:
        if timeout is None:
            return phase(self._channels)
        return _run_within(timeout, phase, self._channels)

    @enable_ki_protection
    async def _clean_up(self, operation: Scalable, slot: Slot) -> None:  # noqa: ASYNC910
        try:
            await self._grace.shield(slot.scope, operation.cleanup, self._channels)
        except Exception as error:
            self._cleanup_failed(error, operation, slot)
        finally:
            if slot.scope.cancel_called:
                slot.cancelled = True
                self._cleanup_failed(
                    trio.TooSlowError(f"it took more than its {self._grace.seconds} seconds"),
                    operation,
                    slot,
                )

    def _reject(self, operation: object, slot: Slot) -> None:
        slot.fate = "failed"
        error = describe(
            TypeError(f"an operation must be a Scalable, not {operation!r}"),
            item=operation,
            phase="source",
        )
        self._manager._state.record(error)
        self._manager._state.stop(error, "soon")

    def _cleanup_failed(self, error: Exception, operation: Scalable, slot: Slot) -> None:
        if slot.fate == "completed":
            slot.fate = "failed"
        self.attempts.fail(_describe(error, operation, "cleanup"))


async def _run_within(
    seconds: float, phase: Callable[[Channels], Awaitable[None]], channels: Channels
) -> None:
    with trio.fail_after(seconds):
        await phase(channels)


def _describe(error: Exception, operation: Scalable, phase: Phase) -> ConcurrentError:
    try:
        identifiers = operation.identifiers
    except Exception:
        identifiers = ()
    return describe(error, item=operation, phase=phase, identifiers=identifiers)


async def run_phases(
    operations: AnySource[Scalable],
    *,
    limiter: AnyLimiter | int,
    prepare_limiter: AnyLimiter | int | None = None,
    on_error: Iterable[ErrorPolicy] = (Skip(),),
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
      on_error: the policies for errors, asked in order; the first verdict holds,
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
    if counting not in ("runner", "phases"):
        raise ValueError(f"counting must be 'runner' or 'phases', not {counting!r}")
    tokens = as_limiter(limiter, "limiter")
    entry = tokens if prepare_limiter is None else as_limiter(prepare_limiter, "prepare_limiter")
    state = RunState(max_errors)
    manager = Manager(tokens, state, by_phases=counting == "phases")
    grace = Grace(cleanup_grace)
    runner = _Runner(manager, timeouts, grace, prepare_limiter is not None)
    stage = manager._pool = WorkerPool(
        open_source(operations),
        runner.handle,
        entry,
        state=state,
        rate=rate,
        window=window,
        limits=(tokens,) if entry is tokens else (entry, tokens),
    )
    state.stop_source = stage.stop_source
    runner.attempts = Attempts(
        on_error,
        counts=stage.counts,
        state=state,
        phase="work",
        limiter=entry,
        rate=rate,
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager._telemetry.run)
            nursery.start_soon(grace.watch)
            task_status.started(manager)
            try:
                with state.scope:
                    await stage.run()
            finally:
                grace.dismiss()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        interrupt = interruption(group)
        if interrupt is None:
            raise
        raise interrupt from group
    finally:
        stage.close_books()
        manager._telemetry.close()
    if state.fatal:
        aborted = Aborted("run_phases was stopped", state.fatal)
        aborted.report = manager.report()
        raise aborted
    return manager.report()
