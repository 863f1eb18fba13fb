"""Reads the records of limiters of one name, from all sessions of a program. It blocks."""

from __future__ import annotations

import math

import sqlalchemy as sa

from . import _schema as schema
from ._curves import read_curve
from ._minutes import MINUTE
from ._reading import connection_to
from ._records import Point


def read_past(
    url: str, name: str, limiter: str, span: tuple[float, float], most: int
) -> tuple[Point, ...]:
    """Return the stored points; see `RecordedHistory.points`."""
    first, end = (math.ceil(1000 * time) for time in span)
    if end <= first:
        return ()
    # Points are at multiples of the width, so there may be one more point than fits at the end, and
    # one more where minutes and samples meet.
    width = math.ceil((end - first) / max(1, most - 2))
    limiters = _limiters(name, limiter, first, end)
    with connection_to(url) as connection:
        newer: tuple[Point, ...] = ()
        if width < MINUTE:
            newer = _curve(connection, schema.SAMPLES, limiters, (first, end, width))
        if newer:
            end = math.floor(1000 * newer[0].time) // MINUTE * MINUTE
        return _curve(connection, schema.MINUTES, limiters, (first, end, width)) + newer


def _limiters(name: str, limiter: str, first: int, end: int) -> sa.Select[tuple[int]]:
    """Select the numbers of the limiter in the sessions of that time."""
    sessions, limiters = schema.SESSIONS.c, schema.LIMITERS.c
    return (
        sa.select(limiters.id)
        .join_from(schema.LIMITERS, schema.SESSIONS, limiters.session == sessions.id)
        .where(sessions.name == name, limiters.name == limiter)
        .where(sessions.started < end, sessions.seen >= first)
    )


def _curve(
    connection: sa.Connection,
    table: sa.Table,
    limiters: sa.Select[tuple[int]],
    span: tuple[int, int, int],
) -> tuple[Point, ...]:
    first, end, width = span
    column = table.c
    where = column.limiter.in_(limiters) & (column.taken >= first) & (column.taken < end)
    return read_curve(connection, table, where, width)
