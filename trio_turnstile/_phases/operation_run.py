"""`OperationRunner`: takes one operation through its phases.

The worker pool calls it for many operations at the same time. A token is held from prepare
through monitor, because work that was submitted to a cluster still counts. Clean-up holds no
token. It is shielded from cancellation, for a bounded time, and runs once for every operation
whose prepare began, whatever happened.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.beginnings import timed
from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.durations import Tell
from trio_turnstile._engine.pacing import paid
from trio_turnstile._engine.policies import ErrorPolicy
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import Slot
from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._texts import shown
from trio_turnstile._util import refuse_stray, stray

from .calling import NO_TIMEOUTS, Phases, defines, measured_phases, within
from .entries import Entries
from .grace import Grace
from .scalable import Channels, Phase, PhaseTimeouts, Scalable

_COMPLETED, _CANCELLED = Fate.COMPLETED, Fate.CANCELLED


@final
class OperationRunner:
    """Runs one operation through its phases."""

    admit = recover = follow = leave = None

    def __init__(
        self,
        attempts: Attempts[Scalable],
        *,
        state: RunState,
        channels: Channels,
        timeouts: PhaseTimeouts,
        grace: Grace,
        entries: Entries,
        policies: Iterable[ErrorPolicy],
        tellers: Mapping[Phase, Tell] | None = None,
    ) -> None:
        self.attempts = attempts
        self._policies = tuple(policies)
        self._try = self.timed(self._attempt)
        self.state = state
        self.channels = channels
        self.timeouts = timeouts
        self._grace = grace
        self.entries = entries
        """The tokens that operations take."""
        self.tellers = tellers
        """Who is told how long each phase takes, if anybody is."""

    def timed(
        self, attempt: Callable[[Scalable, Slot], Awaitable[Fate]]
    ) -> Callable[[Scalable, Slot], Awaitable[Fate]]:
        """Return an attempt that notes when it began, and uses what was paid for it, if needed."""
        return timed(paid(attempt, self.attempts.pace), self._policies)

    @enable_ki_protection
    async def handle(self, operation: object, slot: Slot) -> None:
        """Take the operation through all phases, with retries, and clean up."""
        if not isinstance(operation, Scalable):
            return self.reject(operation, slot)  # noqa: ASYNC910 (the worker goes on)
        if self.state.stopping:
            return  # noqa: ASYNC910 (not begun: the slot's fate is still "cancelled")
        try:
            try:
                slot.fate = await self._try(operation, slot)
            except Exception as error:
                slot.fate = await self.attempts.recover(operation, slot, error, self._try)
        finally:
            # No shield if there is nothing to do, because it costs 2 µs. In that case the
            # worker gives the token back.
            if defines(operation, "cleanup"):
                give_back(slot)
                await self.clean_up(operation, slot, self.channels)

    @disable_ki_protection
    async def _attempt(self, operation: Scalable, slot: Slot) -> Fate:
        # Phases without a timeout are called right here: one more call for each made an
        # operation of no-ops 1.04 times as slow.
        channels, limit = self.channels, self.timeouts
        phases: Scalable | Phases = operation
        if self.tellers is not None:
            phases, limit = self.phases_of(operation)
        try:
            slot.phase, call, seconds = "prepare", phases.prepare, limit.prepare
            await (call(channels) if seconds is None else within(seconds, call, channels))
            if self.entries.work is not None:
                await self.entries.take_for_work(operation, slot)
            slot.phase, call, seconds = "work", phases.work, limit.work
            await (call(channels) if seconds is None else within(seconds, call, channels))
            slot.phase, call, seconds = "monitor", phases.monitor, limit.monitor
            await (call(channels) if seconds is None else within(seconds, call, channels))
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise
        return _COMPLETED

    def phases_of(self, operation: Scalable) -> tuple[Scalable | Phases, PhaseTimeouts]:
        """Return the phases as they are called, and how long each may take."""
        if self.tellers is None:
            return operation, self.timeouts
        return measured_phases(operation, self.timeouts, self.tellers), NO_TIMEOUTS

    @enable_ki_protection
    async def clean_up(  # noqa: ASYNC910
        self,
        operation: Scalable,
        slot: Slot,
        channels: Channels,
        on_failure: Callable[[Exception], object] = lambda _: None,
    ) -> None:
        """Run the clean-up of an operation, which must hold no token."""
        slot.phase, in_flight = "cleanup", sys.exception()
        try:
            phases, _ = self.phases_of(operation)
            await self._grace.shield(slot.scope, phases.cleanup, channels)
        except Exception as error:
            self._cleanup_failed(error, operation, slot, on_failure)
        except trio.Cancelled as cancelled:
            kept = stray(cancelled)
            if kept is not None:
                self._cleanup_failed(kept, operation, slot, on_failure)
            elif in_flight is None or isinstance(in_flight, trio.Cancelled):
                raise
            # Otherwise an interrupt is on its way out, which the end of the grace does not replace.
        finally:
            if slot.scope.cancel_called:
                slot.cancelled = True
                too_slow = f"it took more than its {self._grace.seconds} seconds"
                self._cleanup_failed(trio.TooSlowError(too_slow), operation, slot, on_failure)

    async def refuse(self, error: Exception, operation: object, slot: Slot) -> None:
        """End an operation that cannot have the tokens that it needs."""
        if not isinstance(operation, Scalable):
            return self.reject(operation, slot)  # noqa: ASYNC910 (the worker goes on)
        slot.phase = "limiter"
        failed = describe_failure(error, operation, slot)
        slot.fate = await self.attempts.give_up(failed, self.attempts.judge_finally(failed))

    def reject(self, operation: object, slot: Slot) -> None:
        """Stop the run, because its source returned something that is not an operation."""
        slot.fate = Fate.FAILED
        error = describe(
            TypeError(f"an operation must be a Scalable, not {shown(operation)}"),
            item=operation,
            phase="source",
        )
        self.state.stop(error, "soon")

    def _cleanup_failed(
        self,
        error: Exception,
        operation: Scalable,
        slot: Slot,
        on_failure: Callable[[Exception], object],
    ) -> None:
        on_failure(error)
        if slot.fate is Fate.COMPLETED:
            slot.fate = Fate.FAILED
        self.attempts.fail(describe_failure(error, operation, slot))


def give_back(slot: Slot) -> None:
    """Give the token in the slot back, if there is one."""
    if slot.fate is _CANCELLED:
        slot.release_cancelled()
    else:
        slot.release()


def describe_failure(error: Exception, operation: Scalable, slot: Slot) -> ConcurrentError:
    """Describe what an operation raised."""
    identifiers: object = ()
    with suppress(Exception):
        identifiers = operation.identifiers
    return describe(error, item=operation, phase=slot.phase, identifiers=identifiers)
