"""`Recorder`: observes the events of a turnstile, and passes them to the thread that writes.

Only the task that writes waits for the database. Entries that cannot be written stay in a buffer
of bounded length, and are written when the database is available again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeAlias, final

import attrs
import trio

from trio_turnstile import (
    Decision,
    ErrorNoted,
    Event,
    LiveRun,
    RunClosed,
    RunOpened,
    Snapshot,
    Turnstile,
)

from ._batch import Batch, Decided, Ended, Failed, Recorded
from ._buffer import Buffer
from ._errors import StatisticsError, reason
from ._rows import Clock, Row, Sample, count_rows, error_row, run_row, sample_of, timed

if TYPE_CHECKING:
    from ._writer import Writer

_LOG = logging.getLogger("trio_turnstile.statistics")

EVENTS_AT_ONCE, SAMPLES_AT_ONCE, SAMPLES_BESIDE_EVENTS = 5_000, 20_000, 1_000
"""The most entries of one transaction. With events there are fewer samples, so events go first."""

LIMITERS_AT_ONCE = 100
"""How many limiters are asked for their averages before other tasks can run."""


Averages: TypeAlias = Mapping[str, Mapping[int, float | None]]


@final
@attrs.frozen
class RecorderStatistics:
    """How a recording goes."""

    buffered: int
    """How many samples, decisions and errors are waiting to be stored."""
    stored: int
    """How many of them have been stored."""
    dropped_samples: int
    """How many samples were dropped because the database was unavailable for too long."""
    dropped_events: int
    """How many decisions, errors and ends of runs were dropped because no sample was left."""
    failures: int
    """How often writing to the database failed."""
    last_error: str | None
    """Why writing failed the last time; ``None`` once it has succeeded again."""


@final
class Recorder:
    """Records one turnstile.

    Args:
      turnstile: the turnstile to record.
      writer: stores the records.
      session: the row of the session.
      clock: returns the Unix time of a time on trio's clock.
      most: how many samples, decisions and errors are kept while the database is unavailable.
    """

    def __init__(
        self, turnstile: Turnstile, writer: Writer, session: Row, clock: Clock, most: int
    ) -> None:
        self._turnstile = turnstile
        self._writer = writer
        self._session = session
        self._clock = clock
        self._buffer = Buffer[Sample, Recorded](most)
        self._decisions, self._errors = count(), count()
        self._runs: dict[str, tuple[LiveRun, Row]] = {}
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)  # an abandoned write keeps its turn
        self._stored, self._failures = 0, 0
        self._got_on: Callable[[], None] = _nothing
        self._error: Exception | None = None
        self._begun = False

    def statistics(self) -> RecorderStatistics:
        """Return how the recording goes."""
        return RecorderStatistics(
            buffered=len(self._buffer),
            stored=self._stored,
            dropped_samples=self._buffer.samples.dropped,
            dropped_events=self._buffer.events.dropped,
            failures=self._failures,
            last_error=None if self._error is None else reason(self._error),
        )

    # ---- events ----

    def hear(self, event: Event) -> None:
        """Record an event."""
        if isinstance(event, Snapshot):
            self._buffer.add_sample(sample_of(event))
        elif isinstance(event, Decision):
            self._buffer.add_event(Decided(next(self._decisions), event))
        elif isinstance(event, ErrorNoted):
            row = error_row(event.error, self._clock(event.time))
            self._buffer.add_event(Failed(next(self._errors), self.know(event.run), row))
        elif isinstance(event, RunOpened):
            self.know(event.run)
        elif isinstance(event, RunClosed):
            self._end(event)

    def know(self, run: LiveRun) -> Row:
        """Return the row of a run, as it was when this was first called for the run."""
        if run.id not in self._runs:
            self._runs[run.id] = run, run_row(run, self._clock(run.started))
        return self._runs[run.id][1]

    def _end(self, event: RunClosed) -> None:
        run, ended = event.run, self._clock(event.time)
        row = self.know(run) | {"state": "ended", "ended": ended}
        del self._runs[run.id]
        self._buffer.add_event(Ended(row, timed(count_rows(run, event.report), ended)))

    # ---- writing ----

    async def begin(self) -> None:
        """Store the session.

        Raises:
          StatisticsError: if the file is not a database, or its tables have a newer version.
        """
        await self.flush()
        if isinstance(self._error, StatisticsError):
            self._writer.close()
            raise self._error
        self._begun = True

    async def run(self, every: float) -> None:
        """Store new records again and again, until cancelled."""
        while True:
            await trio.sleep(every)
            await self.flush()

    async def finish(self, got_on: Callable[[], None], close: Callable[[], None]) -> None:
        """Store all remaining records, and the end of the session.

        Args:
          got_on: called each time that some records were stored.
          close: ends the observation.
        """
        self._got_on = got_on
        try:
            await self.flush()  # meanwhile, pending requests to limiters are decided
            close()
            self._session["ended"] = self._clock(trio.current_time())
            await self.flush()
            close = self._writer.close
            await trio.to_thread.run_sync(close, limiter=self._thread, abandon_on_cancel=True)
        finally:
            if self._buffer:
                _LOG.warning(_LOST, len(self._buffer), self.statistics().last_error)

    async def flush(self) -> None:
        """Store everything recorded so far, if the database is available."""
        async with self._turn:
            averages = await self._averages()
            # Records that come while this is running wait for the next time.
            rounds = 1 + len(self._buffer) // SAMPLES_BESIDE_EVENTS
            while rounds and await self._store(averages):
                averages, rounds = {}, rounds - 1 if self._buffer else 0

    async def _store(self, averages: Averages) -> bool:
        """Store one batch, and return whether it was stored."""
        events = self._buffer.events.first(EVENTS_AT_ONCE)
        most = SAMPLES_BESIDE_EVENTS if events.entries else SAMPLES_AT_ONCE
        samples = self._buffer.samples.first(most)
        batch = self._batch(samples.entries, events.entries, averages)
        if not await self._in_thread(partial(self._writer.write, batch)):
            return False
        self._buffer.samples.settle(samples)
        self._buffer.events.settle(events)
        self._stored += len(samples.entries) + len(events.entries)
        self._got_on()
        return True

    async def _averages(self) -> Averages:
        """Return the averages of all limiters; other tasks run meanwhile."""
        found: dict[str, Mapping[int, float | None]] = {}
        for number, name in enumerate(tuple(self._turnstile.limiters)):
            if number % LIMITERS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            found[name] = self._turnstile.history.averages(name)
        return found

    def _batch(
        self, samples: Sequence[Sample], events: Sequence[Recorded], averages: Averages
    ) -> Batch:
        now = self._clock(trio.current_time())
        ended = [event for event in events if isinstance(event, Ended)]
        rows = {event.run["uuid"]: event.run for event in events if isinstance(event, Failed)}
        rows |= {uuid: row | {"state": run.state} for uuid, (run, row) in self._runs.items()}
        rows |= {event.run["uuid"]: event.run for event in ended}
        live = [
            (uuid, row)
            for uuid, (run, _) in self._runs.items()
            for row in timed(count_rows(run, run.report()), now)
        ]
        last = [(event.run["uuid"], row) for event in ended for row in event.counts]
        dropped = {
            "dropped_samples": self._buffer.samples.dropped,
            "dropped_events": self._buffer.events.dropped,
        }
        session = self._session | dropped | {"seen": now}
        return Batch(session, samples, events, tuple(rows.values()), [*live, *last], averages)

    async def _in_thread(self, work: Callable[[], object]) -> bool:
        """Do some work in the thread; return whether it succeeded, and log when that changes."""
        try:
            await trio.to_thread.run_sync(work, limiter=self._thread, abandon_on_cancel=True)
        except Exception as error:  # from the database, whatever its driver is
            self._failures += 1
            raised = isinstance(error, StatisticsError) and not self._begun  # by `begin`
            if self._error is None and not raised:
                _LOG.warning(_AWAY, reason(error))
            self._error = error
            return False
        if self._error is not None:
            _LOG.info("statistics can be stored again")
        self._error = None
        return True


def _nothing() -> None:
    """Do nothing."""


_AWAY = (
    "statistics cannot be stored, and are kept in memory until they can be: %s; "
    "the work goes on as before"
)
_LOST = "%d samples, decisions and errors could not be stored: %s"
