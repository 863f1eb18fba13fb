"""`RecordedRunner`: takes operations through their phases, and keeps in a ledger how far they are.

The beginning of an operation is on disk before its prepare is called, and its end is on disk before
it is counted. So whatever kills the process, the next run knows every operation that may have
begun. It cleans up after those that were interrupted, and then does them again, or goes on where
they were.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.recording import Beginning, LedgerError, Recorder, stop_for_ledger
from trio_turnstile._engine.slot import Slot
from trio_turnstile._limiting.claims import TooWide
from trio_turnstile._texts import shown, shown_error
from trio_turnstile._util import refuse_stray, unprotected

from .calling import Call, defines, within
from .operation_run import OperationRunner, describe_failure, give_back
from .scalable import PHASES, Channels, Phase, Scalable, encode_facts


def outcomes_done(*, retry_failed: bool) -> frozenset[Fate]:
    """Return the outcomes after which an operation is not begun again."""
    others = () if retry_failed else (Fate.FAILED, Fate.DIVERTED)
    return frozenset({Fate.COMPLETED, *others})


@final
@attrs.define(eq=False)
class _Record:
    """What the ledger is told about one operation."""

    recorder: Recorder
    number: int
    channels: Channels
    noted: Phase | None
    """The phase that is already noted, if that is known."""
    first: Phase = "prepare"
    """The phase at which the next attempt begins."""
    attempt: int = 0
    error: str | None = None
    """What the last attempt raised, or else the clean-up."""
    refused: bool = False
    """Whether nothing began after the clean-up for an earlier run, because it got no token.

    Then the next run begins it, like an operation that is refused before anything is noted.
    """

    async def begin_attempt(self) -> Phase:
        """Count an attempt, and return the phase at which it begins."""
        self.attempt += 1
        self.error = None
        if self.attempt > 1:
            await self.recorder.forget(self.number)
        first, self.first = self.first, "prepare"
        return first

    def cleanup_failed(self, error: Exception) -> None:
        """Keep an error of the clean-up, unless there was one before it."""
        self.error = self.error or shown_error(error)

    def reach(self, phase: Phase, outcome: Fate | None = None) -> None:
        """Note that a phase begins, unless that is noted already."""
        if phase != self.noted or self.attempt > 1:
            self.noted = phase
            self.recorder.note(self.number, phase, self.attempt, outcome)


@final
@attrs.frozen(eq=False)
class RecordedRunner:
    """Runs operations as `OperationRunner` does, and keeps them in a ledger."""

    _runner: OperationRunner
    _recorder: Recorder
    _done: frozenset[Fate]
    """The outcomes after which an operation is not begun again."""
    _has_rate: bool

    recover = follow = leave = None

    @property
    def admit(self) -> Callable[[object, Slot], Awaitable[bool]] | None:
        """Runs before the rate and the token, so that skipped operations wait for neither.

        Without a rate it costs more than it saves, because an operation waits for the ledger twice.
        """
        return self._look_up if self._has_rate else None

    @enable_ki_protection
    async def handle(self, operation: object, slot: Slot) -> None:
        """Take the operation through its phases, unless that has been done before."""
        if not isinstance(operation, Scalable):
            return self._runner.reject(operation, slot)  # noqa: ASYNC910 (the worker goes on)
        if self._stopping():
            return  # noqa: ASYNC910 (not begun: the slot's fate is still "cancelled")
        try:
            beginning = await self._begin(operation)
        except LedgerError as error:
            return self._lost(error, operation)
        except Exception as error:  # of its identity
            self._fail(error, operation, slot)
            return self._pass_over(operation, slot)
        if beginning.standing == "done":
            slot.release_cancelled()  # not a call of the service, so no policy should learn from it
            slot.fate = Fate.SKIPPED
            return self._pass_over(operation, slot)
        interrupted = beginning.standing == "interrupted"
        if interrupted and self._stopping():
            return  # it stays open, for the next run
        channels = attrs.evolve(
            self._runner.channels,
            number=beginning.number,
            memory=partial(self._remember, beginning.number),
        )
        noted = None if interrupted else _first_phase(operation)
        record = _Record(self._recorder, beginning.number, channels, noted)
        try:
            await self._carry_out(operation, slot, record, beginning)
        finally:
            give_back(slot)
            await self._end(operation, slot, record)

    def _fail(self, error: Exception, operation: Scalable, slot: Slot) -> None:
        slot.fate = Fate.FAILED
        self._runner.attempts.fail(describe_failure(error, operation, slot))

    def _pass_over(self, operation: Scalable, slot: Slot) -> None:
        try:
            operation.skipped()
        except Exception as error:
            self._fail(error, operation, slot)

    async def _look_up(self, operation: object, slot: Slot) -> bool:
        """Return whether an operation has to wait for the rate: not if it has ended before."""
        with suppress(Exception):  # of its identity or of the ledger: `handle` meets it again
            if isinstance(operation, Scalable):
                identity: object = operation.identity
                if isinstance(identity, str) and await self._recorder.is_done(identity, self._done):
                    slot.fate = Fate.SKIPPED
                    self._pass_over(operation, slot)
                    return False
        return True

    def _stopping(self) -> bool:
        return self._runner.state.stopping

    async def _begin(self, operation: Scalable) -> Beginning:
        identity: object = operation.identity
        if not isinstance(identity, str) or not identity:
            raise ValueError(
                f"{shown(operation)} has no identity, which must be a text: a ledger knows "
                "operations by it. Define identifiers or identity"
            )
        (beginning,) = await self._recorder.begin([identity], _first_phase(operation), self._done)
        if beginning.standing == "doubled":
            raise ValueError(
                f"identity {identity!r} came before in this run, and a ledger knows operations "
                "by it: give each operation an identity of its own"
            )
        return beginning

    async def _remember(self, number: int, **facts: object) -> None:
        await self._recorder.remember(number, encode_facts(facts))

    async def _carry_out(
        self, operation: Scalable, slot: Slot, record: _Record, beginning: Beginning
    ) -> None:
        if beginning.standing == "interrupted":
            await self._restore(operation, slot, record, beginning)
            if record.refused:
                return
        elif self._stopping():
            return  # the run was told to stop while this waited for the disk
        try:
            if slot.fate is Fate.CANCELLED:  # no outcome yet
                await self._try(operation, slot, record)
        finally:
            if defines(operation, "cleanup") and not _goes_on(operation, slot):
                give_back(slot)
                record.reach("cleanup", None if slot.fate is Fate.CANCELLED else slot.fate)
                await self._clean_up(operation, slot, record)

    async def _clean_up(self, operation: Scalable, slot: Slot, record: _Record) -> None:
        await self._runner.clean_up(operation, slot, record.channels, record.cleanup_failed)

    async def _restore(
        self, operation: Scalable, slot: Slot, record: _Record, beginning: Beginning
    ) -> None:
        """Clean up after an earlier run, unless the operation goes on where it was."""
        if beginning.outcome is not None:
            slot.fate = beginning.outcome
            return
        try:
            record.first = _recall(operation, beginning)
        except Exception as error:
            slot.phase, slot.fate, record.error = "recall", Fate.FAILED, shown_error(error)
            self._runner.attempts.fail(describe_failure(error, operation, slot))
        else:
            if record.first == "prepare":
                await self._clean_up_first(operation, slot, record)

    async def _clean_up_first(self, operation: Scalable, slot: Slot, record: _Record) -> None:
        tokens = slot.held
        assert tokens is not None
        slot.release_cancelled()
        try:
            await self._clean_up(operation, slot, record)
        finally:
            if slot.cancelled:  # the grace ran out, so nothing can follow
                slot.fate = Fate.FAILED
        await self._recorder.forget(record.number)
        try:
            await slot.acquire(tokens)
        except TooWide as error:
            record.error, record.refused = shown_error(error), True
            await self._runner.refuse(error, operation, slot)

    async def _try(self, operation: Scalable, slot: Slot, record: _Record) -> None:
        attempt = self._runner.timed(partial(self._attempt, record))
        try:
            slot.fate = await attempt(operation, slot)
        except Exception as error:
            slot.fate = await self._runner.attempts.recover(operation, slot, error, attempt)

    async def _attempt(self, record: _Record, operation: Scalable, slot: Slot) -> Fate:
        first = await record.begin_attempt()
        phases, timeouts = self._runner.phases_of(operation)
        try:
            for phase in PHASES[PHASES.index(first) : -1]:
                if phase == "work":
                    await self._runner.entries.take_for_work(operation, slot)
                if defines(operation, phase):
                    slot.phase = phase
                    record.reach(phase)
                    call, seconds = getattr(phases, phase), getattr(timeouts, phase)
                    await self._call(call, seconds, record.channels)
        except Exception as error:
            record.error = shown_error(error)
            raise
        return Fate.COMPLETED

    async def _call(self, function: Call, seconds: float | None, channels: Channels) -> None:
        try:
            if seconds is None:
                await unprotected(function, channels)
            else:
                await within(seconds, function, channels)
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise

    async def _end(self, operation: Scalable, slot: Slot, record: _Record) -> None:
        error = None if slot.fate is Fate.COMPLETED else record.error
        fate = Fate.CANCELLED if record.refused else slot.fate
        try:
            if _goes_on(operation, slot):
                await self._recorder.flush()
            else:
                await self._recorder.end(record.number, fate, error)
        except LedgerError as lost:
            self._lost(lost, operation)

    def _lost(self, error: LedgerError, operation: Scalable) -> None:
        """Stop the run, once, because the ledger cannot be written."""
        stop_for_ledger(self._runner.state, error, operation)


def _goes_on(operation: Scalable, slot: Slot) -> bool:
    """Whether the run leaves the operation to the next one, which recalls it."""
    return slot.fate is Fate.CANCELLED and operation.goes_on


def _recall(operation: Scalable, beginning: Beginning) -> Phase:
    first = operation.recall(beginning.facts)
    for phase in PHASES:
        if phase == first:
            return phase
    raise ValueError(f"recall must return one of {', '.join(PHASES)}, not {first!r}")


def _first_phase(operation: Scalable) -> Phase:
    for phase in PHASES:
        if defines(operation, phase):
            return phase
    return "prepare"
