"""What is known of a run of phases: a `Manager` while it runs, a `Report` at its end."""

from __future__ import annotations

from typing import final

import attrs

from trio_turnstile._engine.counts import Counts, Fate
from trio_turnstile._engine.listing import Listing
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._errors import ConcurrentError
from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._limiting.live_run import RunKind, RunStage

from .scalable import Scalable
from .telemetry import Telemetry


@final
@attrs.frozen
class Report:
    """The report of a run: ``received == completed + failed + diverted + cancelled + skipped``.

    With ``counting="phases"``, completed and failed are what the phases reported.
    """

    received: int
    """How many operations were taken from the source."""
    completed: int
    """How many went through all their phases."""
    failed: int
    """How many did not, because of an error."""
    diverted: int
    """How many were sent away as dead letters."""
    cancelled: int
    """How many were cancelled, or were received and never begun."""
    skipped: int
    """How many an earlier run with the same ledger had ended."""
    working: int
    """How many were under way: 0 once the run is over."""
    retried: int
    """How many attempts were made again after an error."""
    errors: tuple[ConcurrentError, ...]
    """The first ``max_errors`` errors, of operations that failed and those that phases sent."""
    errors_omitted: int
    """Number of errors beyond ``max_errors``: counted, not kept."""
    cut_off: tuple[Scalable, ...]
    """The operations that were cancelled, or were received and never begun."""
    ended: bool = False
    """Whether the run was over, so that nothing could be under way any more."""


@final
class Manager:
    """A live run of `run_phases`: its counts, its errors, and a way to end it.

    ``manager = await nursery.start(partial(run_phases, operations, limiter=8))``
    returns it. At every instant ``received == completed + failed + diverted + cancelled + skipped +
    working``, unless the phases do the counting.
    """

    def __init__(
        self,
        limiter: AnyLimiter,
        state: RunState,
        counts: Counts,
        told: Telemetry | None,
        listing: Listing,
    ) -> None:
        self._listing = listing
        self._limiter = limiter
        self._state = state
        self._counts = counts
        self._told = told
        """What the phases report, if they do the counting."""

    @property
    def name(self) -> str:
        """The name of the run; a turnstile may have added a number to make it unique."""
        return self._listing.name

    @property
    def id(self) -> str:
        """A random UUID, in hex, that identifies the run."""
        return self._listing.id

    @property
    def kind(self) -> RunKind:
        """``"phases"``."""
        return self._listing.kind

    @property
    def started(self) -> float:
        """When it was started, on trio's clock, in seconds."""
        return self._listing.started

    @property
    def state(self) -> RunStage:
        """How far it has come: ``"running"``, ``"draining"``, ``"cancelling"`` or ``"ended"``.

        It is draining if it was told to stop, or stops because of an error, and is finishing
        what is in hand.
        """
        return self._listing.stage

    @property
    def total(self) -> int | None:
        """How many items its source has; ``None`` if that is not known, as for a generator."""
        return self._listing.total

    @property
    def limiter(self) -> AnyLimiter:
        """What bounds the run; assign to its ``total_tokens`` to retune it."""
        return self._limiter

    @property
    def received(self) -> int:
        """How many operations were taken from the source so far."""
        return self._counts.received

    @property
    def working(self) -> int:
        """How many are under way: in a phase, or waiting for a token or a retry."""
        return self._counts.in_flight if self._told is None else self._told.working

    @property
    def completed(self) -> int:
        """How many went through all their phases."""
        told = self._told
        return self._counts.fates[Fate.COMPLETED] if told is None else told.completed

    @property
    def failed(self) -> int:
        """How many did not, because of an error."""
        return self._counts.fates[Fate.FAILED] if self._told is None else self._told.failed

    @property
    def diverted(self) -> int:
        """How many were sent away as dead letters."""
        return self._counts.fates[Fate.DIVERTED]

    @property
    def cancelled(self) -> int:
        """How many were cancelled, or were received and never begun."""
        return self._counts.fates[Fate.CANCELLED]

    @property
    def skipped(self) -> int:
        """How many an earlier run with the same ledger had ended."""
        return self._counts.fates[Fate.SKIPPED]

    @property
    def retried(self) -> int:
        """How many attempts were made again after an error."""
        return self._counts.retried

    @property
    def errors(self) -> tuple[ConcurrentError, ...]:
        """The first ``max_errors`` errors, oldest first."""
        return tuple(self._state.errors)

    @property
    def stopped_by(self) -> ConcurrentError | None:
        """The error that ends the run early; ``None`` while none does."""
        return self._state.stopped_by

    async def wait_stopping(self) -> None:
        """Wait until the run was told to stop, by whatever means, or has ended."""
        await self._state.wait_stopping()

    def drain(self, deadline: float | None = None) -> None:
        """Receive no more operations, begin none, and let those that have begun finish.

        Does not wait: the run ends when they have. An operation that was received but has
        not begun to prepare is counted as cancelled.

        Args:
          deadline: when to cancel what is still in hand, on trio's clock
            (``trio.current_time() + seconds``); ``None`` for never.
        """
        self._state.drain(deadline)

    def cancel(self) -> None:
        """End the run now. What is in hand is cancelled, cleaned up and counted."""
        self._state.cancel()

    def report(self) -> Report:
        """Return a report of the run so far."""
        return Report(
            received=self.received,
            completed=self.completed,
            failed=self.failed,
            diverted=self.diverted,
            cancelled=self.cancelled,
            skipped=self.skipped,
            working=self.working,
            retried=self.retried,
            errors=self.errors,
            errors_omitted=self._state.errors_omitted,
            cut_off=tuple(self._counts.cut_off),
            ended=self._state.ended,
        )
