"""The curves of limiters, from samples or from minutes. Reading them blocks."""

from __future__ import annotations

import math

import sqlalchemy as sa

from . import _schema as schema
from ._records import Point


def read_curve(
    connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool], width: int
) -> tuple[Point, ...]:
    """Return the points of a curve.

    Args:
      connection: the connection to the database.
      table: `SAMPLES` or `MINUTES`.
      where: selects the rows of the curve.
      width: milliseconds from one point to the next.
    """
    column = table.c
    tokens, running, waiting, number = (
        (column.tokens_min, column.running_sum, column.waiting_sum, column.samples)
        if table is schema.MINUTES
        else (column.tokens, column.running, column.waiting, sa.literal(1))
    )
    query = (
        sa.select(
            sa.func.min(column.taken).label("time"),
            sa.func.min(tokens).label("limit"),
            sa.func.sum(running).label("running"),
            sa.func.sum(waiting).label("waiting"),
            sa.func.sum(number).label("samples"),
        )
        .where(where)
        .group_by(column.taken // width)
        .order_by(sa.func.min(column.taken))
    )
    return tuple(
        Point(
            row["time"] / 1000,
            math.inf if row["limit"] is None else row["limit"],
            float(row["running"] / row["samples"]),
            float(row["waiting"] / row["samples"]),
        )
        for row in connection.execute(query).mappings()
    )
