"""`Retention`: how long samples and minutes are kept."""

from __future__ import annotations

from typing import final

import attrs
import sqlalchemy as sa

from . import _schema as schema


@final
@attrs.frozen
class Retention:
    """Seconds for which samples, and their sums by the minute, are kept."""

    samples: float
    minutes: float


def prune(connection: sa.Connection, retention: Retention, now: int) -> None:
    """Delete older rows; decisions, errors and the newest counts stay.

    Each deletion goes limiter by limiter, or run by run, because the keys begin with these.
    """
    for table, owner, seconds in (
        (schema.SAMPLES, "limiter", retention.samples),
        (schema.MINUTES, "limiter", retention.minutes),
        (schema.PROGRESS, "run", retention.minutes),
    ):
        owners = sa.select((schema.LIMITERS if owner == "limiter" else schema.RUNS).c.id)
        oldest = now - int(1000 * seconds)
        connection.execute(
            sa.delete(table).where(table.c[owner].in_(owners), table.c.taken < oldest)
        )
