"""Reads the records of one session. It blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import sqlalchemy as sa
from sqlalchemy import exc

from . import _schema as schema
from ._curves import read_curve
from ._database import connect_to_read, shown, transaction, version_of
from ._errors import StatisticsError, reason
from ._minutes import MINUTE
from ._records import (
    DecisionRecord,
    ErrorRecord,
    LimiterRecord,
    Point,
    Progress,
    RunRecord,
    SessionRecord,
    StepRecord,
)

POINTS, LIMITERS, RUNS, EVENTS = 240, 12, 12, 50
"""The most points of a curve, limiters, runs, and decisions or errors of each that are read."""


def read(url: str, run: str | None) -> SessionRecord:
    """Return the stored session; see `read_statistics`."""
    with connection_to(url) as connection:
        where = shown(connection.engine)
        return _Reader(connection, _session(connection, run, where)).read()


@contextmanager
def connection_to(url: str) -> Iterator[sa.Connection]:
    """Connect to a database of statistics, to read it.

    Raises:
      ValueError: if the address is not valid.
      StatisticsError: if there are no statistics, or the database cannot be read.
    """
    engine = connect_to_read(url)
    try:
        with transaction(engine) as connection:
            if version_of(connection) is None:
                raise StatisticsError(f"there are no statistics in {shown(engine)}")
            yield connection
    except exc.SQLAlchemyError as error:
        raise StatisticsError(f"{shown(engine)} cannot be read: {reason(error)}") from error
    finally:
        engine.dispose()


def _session(connection: sa.Connection, run: str | None, where: str) -> Mapping[str, Any]:
    """Return the row of the session that ``run`` names, or of the newest session."""
    table, runs = schema.SESSIONS, schema.RUNS
    query = sa.select(table).order_by(table.c.started.desc(), table.c.id.desc()).limit(1)
    if run is not None:
        of_that_name = sa.select(runs.c.session).where(
            (runs.c.name == run) | runs.c.uuid.startswith(run, autoescape=True)
        )
        query = query.where(
            (table.c.name == run)
            | table.c.uuid.startswith(run, autoescape=True)
            | table.c.id.in_(of_that_name)
        )
    found = connection.execute(query).mappings().first()
    if found is not None:
        return dict(found)
    names = connection.execute(sa.select(runs.c.name).distinct().limit(10)).scalars()
    raise StatisticsError(
        f"there are no statistics in {where}"
        if run is None
        else f"no run is named {run!r} in {where}; there are: {', '.join(names) or 'none'}"
    )


@final
class _Reader:
    """Reads one session."""

    def __init__(self, connection: sa.Connection, session: Mapping[str, Any]) -> None:
        self._connection = connection
        self._session = session
        end = session["ended"] or session["seen"]
        self._width = max(1, math.ceil((end - session["started"]) / POINTS))
        """Milliseconds between two points of a curve."""

    def read(self) -> SessionRecord:
        session = self._session
        limiters, runs = self._busiest(), self._newest_runs()
        return SessionRecord(
            id=session["uuid"],
            name=session["name"],
            host=session["host"],
            pid=session["pid"],
            command=session["command"],
            started=_seconds(session["started"]),
            seen=_seconds(session["seen"]),
            ended=_time(session["ended"]),
            dropped_samples=session["dropped_samples"],
            dropped_events=session["dropped_events"],
            limiters=tuple(self._limiter(row) for row in limiters),
            limiters_omitted=self._count(schema.LIMITERS) - len(limiters),
            runs=tuple(self._run(row) for row in runs[::-1]),
            runs_omitted=self._count(schema.RUNS) - len(runs),
        )

    def _rows(self, query: sa.Executable) -> list[Mapping[str, Any]]:
        return [dict(row) for row in self._connection.execute(query).mappings()]

    def _count(self, table: sa.Table) -> int:
        query = sa.select(sa.func.count()).where(table.c.session == self._session["id"])
        return self._connection.execute(query.select_from(table)).scalar_one()

    # ---- limiters ----

    def _busiest(self) -> list[Mapping[str, Any]]:
        """Return the limiters that were saturated longest, with the sums of their minutes."""
        limiters, minutes = schema.LIMITERS, schema.MINUTES
        totals = {
            name: sa.func.coalesce(sa.func.sum(minutes.c[name]), 0).label(name)
            for name in ("samples", "saturated", "running_sum")
        }
        query = (
            sa.select(limiters.c.id, limiters.c.name, *totals.values())
            .join(minutes, minutes.c.limiter == limiters.c.id, isouter=True)
            .where(limiters.c.session == self._session["id"])
            .group_by(limiters.c.id, limiters.c.name)
            .order_by(totals["saturated"].desc(), totals["running_sum"].desc(), limiters.c.id)
            .limit(LIMITERS)
        )
        return self._rows(query)

    def _limiter(self, row: Mapping[str, Any]) -> LimiterRecord:
        samples = max(1, int(row["samples"]))
        return LimiterRecord(
            name=row["name"],
            samples=int(row["samples"]),
            saturated=int(row["saturated"]) / samples,
            running=int(row["running_sum"]) / samples,
            averages=self._averages(row["id"]),
            points=self._points(row["id"]),
            decisions=self._decisions(row["id"]),
            reasons=self._reasons(row["id"]),
        )

    def _averages(self, limiter: int) -> dict[int, float | None]:
        table = schema.AVERAGES
        rows = self._rows(sa.select(table).where(table.c.limiter == limiter))
        return {window: row[f"s{window}"] for row in rows for window in schema.WINDOWS}

    def _points(self, limiter: int) -> tuple[Point, ...]:
        """Return the curve of a limiter: from samples if there are any, otherwise from minutes."""
        by_samples = () if self._width >= MINUTE else self._curve(schema.SAMPLES, limiter)
        return by_samples or self._curve(schema.MINUTES, limiter)

    def _curve(self, table: sa.Table, limiter: int) -> tuple[Point, ...]:
        return read_curve(self._connection, table, table.c.limiter == limiter, self._width)

    def _decisions(self, limiter: int) -> tuple[DecisionRecord, ...]:
        table = schema.DECISIONS
        query = sa.select(table).where(table.c.limiter == limiter)
        rows = self._rows(query.order_by(table.c.number.desc()).limit(EVENTS))
        return tuple(
            DecisionRecord(
                time=_seconds(row["taken"]),
                signal=row["signal"],
                before=_tokens(row["tokens_before"]),
                after=_tokens(row["tokens_after"]),
                reason=row["reason"],
                by=row["author"],
                note=row["note"],
                evidence=json.loads(row["evidence"]),
            )
            for row in rows[::-1]
        )

    def _reasons(self, limiter: int) -> dict[str, int]:
        table = schema.DECISIONS
        return self._tally(table.c.reason, table.c.limiter == limiter)

    def _tally(self, column: sa.Column[str], where: sa.ColumnElement[bool]) -> dict[str, int]:
        number = sa.func.count().label("number")
        query = sa.select(column, number).where(where).group_by(column)
        return dict(self._connection.execute(query.order_by(number.desc())).all())

    # ---- runs ----

    def _newest_runs(self) -> list[Mapping[str, Any]]:
        table = schema.RUNS
        query = sa.select(table).where(table.c.session == self._session["id"])
        return self._rows(query.order_by(table.c.started.desc(), table.c.id.desc()).limit(RUNS))

    def _run(self, row: Mapping[str, Any]) -> RunRecord:
        errors = schema.ERRORS
        return RunRecord(
            id=row["uuid"],
            name=row["name"],
            kind=row["kind"],
            state=row["state"],
            started=_seconds(row["started"]),
            ended=_time(row["ended"]),
            total=row["total"],
            steps=self._steps(row["id"]),
            errors=self._errors(row["id"]),
            error_types=self._tally(errors.c.type, errors.c.run == row["id"]),
        )

    def _steps(self, run: int) -> tuple[StepRecord, ...]:
        table = schema.COUNTERS
        query = sa.select(table).where(table.c.run == run).order_by(table.c.place)
        return tuple(
            StepRecord(
                name=row["step"],
                limiter=row["limiter"],
                counts={name: row[name] for name in schema.COUNTS},
                progress=self._progress(run, row["place"]),
            )
            for row in self._rows(query)
        )

    def _progress(self, run: int, place: int) -> tuple[Progress, ...]:
        column = schema.PROGRESS.c
        names = ("completed", "in_flight", "waiting", "queued")
        query = (
            sa.select(
                sa.func.max(column.taken).label("time"),
                *(sa.func.max(column[name]).label(name) for name in names),
            )
            .where(column.run == run, column.place == place)
            .group_by(column.taken // self._width)
            .order_by(sa.func.max(column.taken))
        )
        return tuple(
            Progress(_seconds(row["time"]), *(int(row[name]) for name in names))
            for row in self._rows(query)
        )

    def _errors(self, run: int) -> tuple[ErrorRecord, ...]:
        table = schema.ERRORS
        query = sa.select(table).where(table.c.run == run)
        rows = self._rows(query.order_by(table.c.number.desc()).limit(EVENTS))
        return tuple(
            ErrorRecord(
                time=_seconds(row["taken"]),
                step=row["step"],
                item=row["item"],
                identifiers=tuple(json.loads(row["identifiers"])),
                attempt=row["attempt"],
                type=row["type"],
                message=row["message"],
            )
            for row in rows[::-1]
        )


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def _time(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else _seconds(milliseconds)


def _tokens(stored: float | None) -> float:
    return math.inf if stored is None else stored
