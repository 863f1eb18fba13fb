"""The account of a run of phases: live in a `Manager`, in the end a `Report`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import attrs
import trio

from trio_turnstile._engine.pool import WorkerPool
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._errors import ConcurrentError
from trio_turnstile._limiting.either import AnyLimiter

from .scalable import Channels, Scalable


@final
@attrs.frozen
class Report:
    """The account of a run: ``received == completed + failed + diverted + cancelled``.

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
    """How many were cut off by cancellation."""
    working: int
    """How many were under way: 0 once the run is over."""
    retried: int
    """How many attempts were made again after an error."""
    errors: tuple[ConcurrentError, ...]
    """The first ``max_errors`` errors: of operations that failed, and reported by phases."""
    errors_omitted: int
    """How many errors more there were."""
    cut_off: tuple[Scalable, ...]
    """The operations that were cancelled."""


@final
class _Telemetry:
    """The receive ends of the channels: sums of what was sent, and the errors."""

    def __init__(self, record: Callable[[ConcurrentError], object]) -> None:
        self.working = self.completed = self.failed = 0
        # Unbounded, so that telemetry never blocks work; drained as fast as it comes.
        working, self._working = trio.open_memory_channel[int](math.inf)
        completed, self._completed = trio.open_memory_channel[int](math.inf)
        failed, self._failed = trio.open_memory_channel[int](math.inf)
        errors, self._errors = trio.open_memory_channel[ConcurrentError](math.inf)
        self._record = record
        self.channels = Channels(working, completed, failed, errors)

    async def run(self) -> None:
        """Take in what is sent, until cancelled."""
        async with trio.open_nursery() as nursery:
            for receive, take_in in self._ends():
                nursery.start_soon(_take_in_all, receive, take_in)

    def close(self) -> None:
        """Take in what is left, and refuse more."""
        for receive, take_in in self._ends():
            with receive:
                try:
                    while True:
                        take_in(receive.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    pass

    def _ends(self) -> list[tuple[trio.MemoryReceiveChannel[Any], Callable[[Any], object]]]:
        return [
            (self._working, self._add_working),
            (self._completed, self._add_completed),
            (self._failed, self._add_failed),
            (self._errors, self._record),
        ]

    def _add_working(self, change: int) -> None:
        self.working += change

    def _add_completed(self, more: int) -> None:
        self.completed += more

    def _add_failed(self, more: int) -> None:
        self.failed += more


async def _take_in_all(
    receive: trio.MemoryReceiveChannel[Any], take_in: Callable[[Any], object]
) -> None:
    async for value in receive:
        take_in(value)


@final
class Manager:
    """A run of `run_phases` while it goes on: live counts, errors, and a way to end it.

    ``manager = await nursery.start(partial(run_phases, operations, limiter=8))``
    gives it. At every instant ``received == completed + failed + diverted + cancelled + working``,
    unless it is the phases that count.
    """

    def __init__(self, limiter: AnyLimiter, state: RunState, *, by_phases: bool) -> None:
        self._limiter = limiter
        self._state = state
        self._telemetry = _Telemetry(state.record)
        self._by_phases = by_phases
        self._pool: WorkerPool[Scalable]

    @property
    def limiter(self) -> AnyLimiter:
        """What bounds the run; assign its ``total_tokens`` to retune it."""
        return self._limiter

    @property
    def received(self) -> int:
        """How many operations were taken from the source so far."""
        return self._pool.counts.received

    @property
    def working(self) -> int:
        """How many are under way: in a phase, or waiting for a token or a retry."""
        return self._telemetry.working if self._by_phases else self._pool.counts.in_flight

    @property
    def completed(self) -> int:
        """How many went through all their phases."""
        if self._by_phases:
            return self._telemetry.completed
        return self._pool.counts.fates["completed"]

    @property
    def failed(self) -> int:
        """How many did not, because of an error."""
        return self._telemetry.failed if self._by_phases else self._pool.counts.fates["failed"]

    @property
    def diverted(self) -> int:
        """How many were sent away as dead letters."""
        return self._pool.counts.fates["diverted"]

    @property
    def cancelled(self) -> int:
        """How many were cut off by cancellation."""
        return self._pool.counts.fates["cancelled"]

    @property
    def retried(self) -> int:
        """How many attempts were made again after an error."""
        return self._pool.counts.retried

    @property
    def errors(self) -> tuple[ConcurrentError, ...]:
        """The first ``max_errors`` errors, oldest first."""
        return tuple(self._state.errors)

    def drain(self, deadline: float | None = None) -> None:
        """Take no more operations, and let those in hand finish.

        Does not wait: the run ends when they have.

        Args:
          deadline: when to cancel what is still in hand, on trio's clock
            (``trio.current_time() + seconds``); ``None`` for never.
        """
        self._state.drain(deadline)

    def report(self) -> Report:
        """Return the account of the run so far."""
        return Report(
            received=self.received,
            completed=self.completed,
            failed=self.failed,
            diverted=self.diverted,
            cancelled=self.cancelled,
            working=self.working,
            retried=self.retried,
            errors=self.errors,
            errors_omitted=self._state.errors_omitted,
            cut_off=tuple(self._pool.cut_off),
        )
