"""The tables of the statistics database.

Times are Unix times in whole milliseconds. ``NULL`` stands for no limit. No name of a column is a
reserved word of SQL. Every row has its own key, which its writer gives it, so a batch can be
stored again if it is unclear whether it was stored.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

VERSION = 1
"""The version of these tables. Raise it when you change them, and add to `UPGRADES`."""

UPGRADES: dict[int, tuple[str, ...]] = {}
"""For each version except the first, the statements that upgrade the version before to it."""

WINDOWS = (10, 20, 40, 60, 120, 180, 300, 600, 1200, 2400, 3600, 7200)
"""The windows of the averages, in seconds."""

METADATA = sa.MetaData()


def _table(name: str, *parts: sa.schema.SchemaItem, rowid: bool = True) -> sa.Table:
    return sa.Table(f"turnstile_{name}", METADATA, *parts, sqlite_with_rowid=rowid)


def _part_of(table: sa.Table, name: str, *, key: bool = True) -> sa.Column[int]:
    """Return a column that refers to a row of ``table``, and is deleted with that row."""
    reference = sa.ForeignKey(table.c.id, ondelete="CASCADE")
    return sa.Column(name, sa.BigInteger, reference, primary_key=key, nullable=False)


_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers no other type

META = _table("meta", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))

SESSIONS = _table(
    "sessions",
    sa.Column("id", _ID, primary_key=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False, index=True),
    sa.Column("seen", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("dropped_samples", sa.BigInteger, nullable=False, default=0),
    sa.Column("dropped_events", sa.BigInteger, nullable=False, default=0),
)
"""One row for each recording of a turnstile. `seen` is when it was last written."""

LIMITERS = _table(
    "limiters",
    sa.Column("id", _ID, primary_key=True),
    _part_of(SESSIONS, "session", key=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.UniqueConstraint("session", "name"),
)

SAMPLES = _table(
    "samples",
    _part_of(LIMITERS, "limiter"),
    sa.Column("taken", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tokens", sa.Float),
    sa.Column("running", sa.Integer, nullable=False),
    sa.Column("waiting", sa.Integer, nullable=False),
    rowid=False,
)
"""`tokens` is the limit. The key is limiter and time, so one range has the chart of a limiter."""

MINUTES = _table(
    "minutes",
    _part_of(LIMITERS, "limiter"),
    sa.Column("taken", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("samples", sa.Integer, nullable=False),
    sa.Column("saturated", sa.Integer, nullable=False),
    sa.Column("tokens_min", sa.Float),
    sa.Column("tokens_max", sa.Float),
    sa.Column("running_sum", sa.BigInteger, nullable=False),
    sa.Column("running_max", sa.Integer, nullable=False),
    sa.Column("waiting_sum", sa.BigInteger, nullable=False),
    sa.Column("waiting_max", sa.Integer, nullable=False),
    rowid=False,
)
"""Sums of samples by the minute, from which seven days of a limiter are read in milliseconds.

`saturated` is the number of samples in which every token was in use.
"""

AVERAGES = _table(
    "averages",
    _part_of(LIMITERS, "limiter"),
    sa.Column("taken", sa.BigInteger, nullable=False),
    *(sa.Column(f"s{window}", sa.Float) for window in WINDOWS),
)
"""The newest averages of *running*, over 10 seconds to two hours."""

DECISIONS = _table(
    "decisions",
    _part_of(SESSIONS, "session"),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    _part_of(LIMITERS, "limiter", key=False),
    sa.Column("taken", sa.BigInteger, nullable=False),
    sa.Column("signal", sa.Text),
    sa.Column("tokens_before", sa.Float),
    sa.Column("tokens_after", sa.Float),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("author", sa.Text),
    sa.Column("note", sa.Text),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Index("turnstile_decisions_by_limiter", "limiter", "taken"),
)
"""Every change of a limit, and every refusal; `evidence` is a JSON object."""

RUNS = _table(
    "runs",
    sa.Column("id", _ID, primary_key=True),
    _part_of(SESSIONS, "session", key=False),
    sa.Column("uuid", sa.String(36), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("started", sa.BigInteger, nullable=False),
    sa.Column("ended", sa.BigInteger),
    sa.Column("total", sa.BigInteger),
    sa.UniqueConstraint("session", "uuid"),
)
"""Runs of phases and of pipelines."""

_COUNTS = (
    "received",
    "completed",
    "discarded",
    "failed",
    "diverted",
    "cancelled",
    "skipped",
    "in_flight",
    "retried",
)
COUNTS = (*_COUNTS, "waiting", "queued")
"""The counts of each step of a run; the last two are how many are waiting at that moment."""


def _counts() -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False, default=0) for name in COUNTS]


COUNTERS = _table(
    "counters",
    _part_of(RUNS, "run"),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("limiter", sa.Text),
    sa.Column("taken", sa.BigInteger, nullable=False),
    *_counts(),
)
"""The newest counts of each step; `place` is its number in the run."""

PROGRESS = _table(
    "progress",
    _part_of(RUNS, "run"),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("taken", sa.BigInteger, primary_key=True, autoincrement=False),
    *_counts(),
    rowid=False,
)
"""The counts of each step over time. They are kept for as long as minutes."""

ERRORS = _table(
    "errors",
    _part_of(SESSIONS, "session"),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    _part_of(RUNS, "run", key=False),
    sa.Column("taken", sa.BigInteger, nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("item", sa.Text),
    sa.Column("identifiers", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
"""Every error that a run recorded; `identifiers` is a JSON list."""


def upgrades(found: int) -> Iterator[str]:
    """Yield the statements that upgrade tables of version ``found`` to `VERSION`."""
    for version in range(found + 1, VERSION + 1):
        yield from UPGRADES[version]
