"""`Writer`: stores recorded batches. It blocks, and is called in a worker thread.

A batch is stored as a whole or not at all. If it is unclear whether a batch was stored, it is
stored again: existing rows stay, or are replaced by the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

import attrs
import sqlalchemy as sa

from . import _schema as schema
from ._batch import Batch, Decided, Failed
from ._database import add, check_url, connect, make_tables, merge, transaction
from ._minutes import Minutes
from ._retention import Retention, prune
from ._rows import Clock, Row, decision_row, sample_row, text

PRUNE_EVERY = 1_800_000
"""Milliseconds from one deletion of old samples to the next."""


@final
@attrs.define(eq=False)
class _Known:
    """The numbers that the database has given to the rows of this session."""

    session: int | None = None
    limiters: dict[str, int] = attrs.field(factory=dict)
    runs: dict[str, int] = attrs.field(factory=dict)


@final
class Writer:
    """Stores the batches of one session.

    Args:
      url: the address of the database.
      clock: returns the Unix time of a time on trio's clock.
      retention: for how long samples are kept.

    Raises:
      ValueError: if the address is not valid.
      ModuleNotFoundError: if the driver is not installed.
    """

    def __init__(self, url: str, clock: Clock, retention: Retention) -> None:
        self._engine = connect(check_url(url))
        self._clock = clock
        self._retention = retention
        self._ready = False
        self._known = _Known()
        self._minutes = Minutes()
        self._pruned = 0

    def write(self, batch: Batch) -> None:
        """Store a batch.

        Raises:
          sqlalchemy.exc.SQLAlchemyError: if the database is not available, or refuses the batch.
          StatisticsError: if the database cannot be used.
        """
        try:
            if not self._ready:
                make_tables(self._engine)
            with transaction(self._engine) as connection:
                minutes = self._store(connection, batch)
        except BaseException:
            # Rows that were numbered in the meantime were not stored, or the database has changed.
            self._known, self._ready = _Known(), False
            raise
        self._ready = True
        self._minutes.remember(minutes)
        self._prune(batch.session["seen"])

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    # ---- inside ----

    def _prune(self, now: int) -> None:
        """Delete expired rows, twice an hour."""
        if now >= self._pruned + PRUNE_EVERY:
            with transaction(self._engine) as connection:
                prune(connection, self._retention, now)
            self._pruned = now

    def _store(self, connection: sa.Connection, batch: Batch) -> list[Row]:
        """Store a batch, and return its minutes."""
        session = self._store_session(connection, batch.session)
        decided = [event for event in batch.events if isinstance(event, Decided)]
        failed = [event for event in batch.events if isinstance(event, Failed)]
        names = {name: None for name, *_ in batch.samples}
        names |= {each.decision.limiter: None for each in decided}
        self._know_limiters(connection, session, [*names, *batch.averages])
        self._store_runs(connection, session, batch.runs)
        add(connection, schema.DECISIONS, [self._decision_row(session, each) for each in decided])
        add(connection, schema.ERRORS, [self._error_row(session, each) for each in failed])
        self._store_counts(connection, batch.counts)
        self._store_averages(connection, batch)
        return self._store_samples(connection, batch)

    def _store_session(self, connection: sa.Connection, row: Row) -> int:
        merge(connection, schema.SESSIONS, [row], ("uuid",))
        session = self._known.session
        if session is None:
            column = schema.SESSIONS.c
            query = sa.select(column.id).where(column.uuid == row["uuid"])
            session = self._known.session = int(connection.execute(query).scalar_one())
        return session

    def _know_limiters(self, connection: sa.Connection, session: int, names: Sequence[str]) -> None:
        new = {name for name in names if name not in self._known.limiters}
        if not new:
            return
        table = schema.LIMITERS
        rows = [{"session": session, "name": text(name)} for name in new]
        add(connection, table, rows)
        query = sa.select(table.c.name, table.c.id).where(table.c.session == session)
        numbers = dict(connection.execute(query).all())
        self._known.limiters |= {name: numbers[text(name)] for name in new}

    def _store_runs(self, connection: sa.Connection, session: int, runs: Sequence[Row]) -> None:
        if not runs:
            return
        table = schema.RUNS
        merge(connection, table, [{**row, "session": session} for row in runs], ("session", "uuid"))
        told = {row["uuid"] for row in runs}
        if not told <= self._known.runs.keys():
            query = sa.select(table.c.uuid, table.c.id).where(
                table.c.session == session, table.c.uuid.in_(told)
            )
            self._known.runs = dict(connection.execute(query).all())

    def _decision_row(self, session: int, decided: Decided) -> Row:
        decision = decided.decision
        row = decision_row(decision, self._clock(decision.time))
        limiter = self._known.limiters[decision.limiter]
        return {**row, "session": session, "number": decided.number, "limiter": limiter}

    def _error_row(self, session: int, failed: Failed) -> Row:
        run = self._known.runs[failed.run["uuid"]]
        return {**failed.row, "session": session, "number": failed.number, "run": run}

    def _store_counts(self, connection: sa.Connection, counts: Iterable[tuple[str, Row]]) -> None:
        rows = [{**row, "run": self._known.runs[run]} for run, row in counts]
        merge(connection, schema.COUNTERS, rows, ("run", "place"))
        columns = schema.PROGRESS.c.keys()
        add(connection, schema.PROGRESS, [{name: row[name] for name in columns} for row in rows])

    def _store_averages(self, connection: sa.Connection, batch: Batch) -> None:
        rows = [
            {
                "limiter": self._known.limiters[name],
                "taken": batch.session["seen"],
                **{f"s{window}": average for window, average in averages.items()},
            }
            for name, averages in batch.averages.items()
        ]
        merge(connection, schema.AVERAGES, rows, ("limiter",))

    def _store_samples(self, connection: sa.Connection, batch: Batch) -> list[Row]:
        known = self._known.limiters
        rows = [
            sample_row(sample, known[sample[0]], self._clock(sample[1])) for sample in batch.samples
        ]
        add(connection, schema.SAMPLES, rows)
        minutes = self._minutes.touched(rows)
        merge(connection, schema.MINUTES, minutes, ("limiter", "taken"))
        return minutes
