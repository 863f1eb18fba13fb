"""The content of a statistics database, read with plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import attrs
import sqlalchemy as sa

from trio_turnstile import Decision, ErrorNoted, Event, RunClosed, Snapshot


@final
@attrs.frozen
class Recorded:
    """A database of statistics.

    Args:
      url: its address.
      engine: a connection of the test to it.
    """

    url: str
    engine: sa.Engine

    @classmethod
    @contextmanager
    def open(cls, url: str) -> Iterator[Recorded]:
        """Open a connection, and close it at the end."""
        driver = url.replace("postgresql://", "postgresql+psycopg://")
        engine = sa.create_engine(driver, poolclass=sa.NullPool)
        try:
            yield cls(url, engine)
        finally:
            engine.dispose()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def value(self, query: str) -> Any:
        """Return the only value of a query."""
        ((value,),) = self.rows(query)
        return value

    def execute(self, statement: str) -> None:
        """Execute a statement."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))


@final
@attrs.define
class Heard:
    """An observer that keeps the events that should be in the database."""

    samples: list[tuple[str, int, int]] = attrs.field(factory=list)
    """Limiter, running, waiting."""
    decisions: list[tuple[str, str, float, float]] = attrs.field(factory=list)
    """Limiter, reason, before, after."""
    errors: list[str] = attrs.field(factory=list)
    """The items or operations in hand, as text."""
    ended: list[str] = attrs.field(factory=list)
    """The names of runs."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Snapshot):
            self.samples.append((event.limiter, event.running, event.waiting))
        elif isinstance(event, Decision):
            decision = (event.limiter, event.reason.value, event.before, event.after)
            self.decisions.append(decision)
        elif isinstance(event, ErrorNoted):
            self.errors.append(str(event.error.item))
        elif isinstance(event, RunClosed):
            self.ended.append(event.run.name)


DECISIONS = """
SELECT l.name, d.reason, d.tokens_before, d.tokens_after FROM turnstile_decisions d
JOIN turnstile_limiters l ON l.id = d.limiter ORDER BY d.session, d.number
"""
SAMPLES = """
SELECT l.name, s.running, s.waiting FROM turnstile_samples s
JOIN turnstile_limiters l ON l.id = s.limiter ORDER BY s.taken, l.id
"""
ERRORS = "SELECT item FROM turnstile_errors ORDER BY session, number"
ENDED = "SELECT name FROM turnstile_runs WHERE state = 'ended' ORDER BY ended, id"


def stored(recorded: Recorded) -> Heard:
    """Return the events that are in the database."""
    return Heard(
        samples=recorded.rows(SAMPLES),
        decisions=recorded.rows(DECISIONS),
        errors=[item for (item,) in recorded.rows(ERRORS)],
        ended=[name for (name,) in recorded.rows(ENDED)],
    )
