"""Overrides that are kept in a ledger, so that a limit that somebody has set outlives the process.

Times in the ledger are Unix times: trio's clock begins anew in each process.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import final

from trio_turnstile._limiting.events import Decision, Event, Reason
from trio_turnstile._limiting.instant import Instant
from trio_turnstile._limiting.override import Override
from trio_turnstile._limiting.turnstile import Turnstile

from .schema import loaded, stored
from .store import Store
from .writer import Writer

TABLE = """
CREATE TABLE IF NOT EXISTS overrides (
    run INTEGER NOT NULL,
    limiter NOT NULL,
    tokens REAL NOT NULL,
    author,
    note,
    began REAL NOT NULL,
    ends REAL NOT NULL,
    PRIMARY KEY (run, limiter)
) WITHOUT ROWID;
"""
"""An older ledger gets this when it is opened. Infinity stands for no limit, and for no end."""


def read(connection: sqlite3.Connection, run: int, now: Instant) -> dict[str, Override]:
    """Return the overrides of a run by limiter, and drop those whose time is over."""
    connection.execute("DELETE FROM overrides WHERE ends <= ?", (now.wall_time,))
    rows = connection.execute(
        "SELECT limiter, tokens, author, note, began, ends FROM overrides WHERE run = ? "
        "ORDER BY began",
        (run,),
    )
    return {
        loaded(limiter): Override(
            tokens=tokens if tokens == math.inf else int(tokens),
            by=None if by is None else loaded(by),
            note=None if note is None else loaded(note),
            time=now.time_of(began),
            until=now.time_of(ends),
            wall_time=began,
        )
        for limiter, tokens, by, note, began, ends in rows
    }


def _write(connection: sqlite3.Connection, run: int, limiter: str, override: Override) -> None:
    by, note = (None if text is None else stored(text) for text in (override.by, override.note))
    connection.execute(
        "INSERT OR REPLACE INTO overrides (run, limiter, tokens, author, note, began, ends) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            run,
            stored(limiter),
            override.tokens,
            by,
            note,
            override.wall_time,
            override.wall_until,
        ),
    )


def _erase(connection: sqlite3.Connection, run: int, limiter: str) -> None:
    connection.execute(
        "DELETE FROM overrides WHERE run = ? AND limiter = ?", (run, stored(limiter))
    )


@final
class OverrideKeeper:
    """An observer of a turnstile that notes its overrides.

    Args:
      turnstile: the turnstile that it observes.
      store: the store of the ledger and the run.
      writer: writes to the ledger.
      known: the limiters for which the ledger has an override.
    """

    def __init__(
        self, turnstile: Turnstile, store: Store, writer: Writer, known: Iterable[str]
    ) -> None:
        self._turnstile = turnstile
        self._store = store
        self._writer = writer
        self._known = set(known)

    def __call__(self, event: Event, /) -> None:
        """Note an override that was set or has ended, without waiting for the disk."""
        if isinstance(event, Decision) and event.reason in _CHANGES:
            self._note(event.limiter, self._turnstile.limiters[event.limiter].override)

    def _note(self, limiter: str, override: Override | None) -> None:
        if override is not None:
            self._known.add(limiter)
            self._post(partial(_write, override=override), limiter)
        elif limiter in self._known:
            self._known.discard(limiter)
            self._post(_erase, limiter)

    def _post(self, change: Callable[[sqlite3.Connection, int, str], None], limiter: str) -> None:
        store = self._store
        self._writer.post(partial(change, store.connection, store.run, limiter), at_once=True)


_CHANGES = (Reason.OVERRIDE, Reason.RELEASED, Reason.MANUAL)
"""Reasons of decisions that may set or end an override: `MANUAL` if the program assigns."""
