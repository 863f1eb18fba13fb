"""`Store`: what is read from a ledger and written to it, as plain SQL.

Its methods run in the thread that writes, inside a transaction that `Writer` begins and ends.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from time import time
from typing import Any, final

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.recording import Beginning, Standing

from .schema import loaded, stored


@final
class Store:
    """The operations of one run in a ledger.

    Args:
      connection: to the ledger.
      run: the number of the run.
    """

    def __init__(self, connection: sqlite3.Connection, run: int) -> None:
        self.connection = connection
        self.run = run
        self.live: dict[int, bytearray] = {}
        """The sessions of this process that have not ended.

        Each session has a byte for each operation, by its number: whether it has met the operation
        as done. A set of the numbers would take fifty times as much memory.
        """

    # ---- sessions ----

    def begin_session(self) -> int:
        """Note that a run begins to work on the operations, and return its number."""
        cursor = self.connection.execute(
            "INSERT INTO sessions (run, host, process, began) VALUES (?, ?, ?, ?)",
            (self.run, platform.node(), os.getpid(), time()),
        )
        session = cursor.lastrowid
        assert session is not None
        self.live[session] = bytearray()
        return session

    def end_session(self, session: int) -> None:
        """Note that a session has ended. Operations that it left open are no longer live."""
        self.live.pop(session, None)
        self.connection.execute(
            "UPDATE sessions SET ended = ? WHERE session = ?", (time(), session)
        )

    # ---- operations ----

    def begin(self, session: int, identity: str, phase: str, done: frozenset[Fate]) -> Beginning:
        """Look an operation up, and note that it begins with a phase, if it has to be done."""
        key = stored(identity)
        added = self.connection.execute(
            "INSERT INTO operations (run, identity, session, phase, attempt, began) "
            "VALUES (?, ?, ?, ?, 1, ?) ON CONFLICT DO NOTHING",
            (self.run, key, session, phase, time()),
        )
        if added.rowcount:
            return Beginning("new", added.lastrowid or 0)
        number, last, text, ended = self._find(key)
        standing = self._standing(session, last, ended)
        if standing == "done" and text not in done:
            standing = "new"
        if standing == "done" and self._has_met(session, number):
            standing = "doubled"
        outcome = None if text is None or standing == "new" else Fate(text)
        if standing == "new":
            self._begin_again(session, number, phase)
            return Beginning(standing, number)
        if standing == "interrupted":
            return self._take_over(session, number, outcome)
        return Beginning(standing, number, outcome)

    def is_done(self, session: int, identity: str, done: frozenset[Fate]) -> bool:
        """Return whether an operation has ended in one of these ways, and was not met before."""
        found = self._find(stored(identity))
        if found is None:
            return False
        number, last, text, ended = found
        is_done = self._standing(session, last, ended) == "done" and text in done
        return is_done and not self._has_met(session, number)

    def _find(self, key: str | bytes) -> Any:
        return self.connection.execute(
            "SELECT number, session, outcome, ended FROM operations WHERE run = ? AND identity = ?",
            (self.run, key),
        ).fetchone()

    def _standing(self, session: int, last: int, ended: float | None) -> Standing:
        if last == session or (ended is None and last in self.live):
            return "doubled"
        return "interrupted" if ended is None else "done"

    def _has_met(self, session: int, number: int) -> bool:
        """Return whether a run has met a finished operation before, and note that it has now."""
        met = self.live[session]
        met.extend(bytes(max(0, number + 1 - len(met))))
        before, met[number] = met[number], 1
        return bool(before)

    def _begin_again(self, session: int, number: int, phase: str) -> None:
        self.forget(number)
        self.connection.execute(
            "UPDATE operations SET session = ?, phase = ?, attempt = 1, outcome = NULL, "
            "error = NULL, began = ?, ended = NULL WHERE number = ?",
            (session, phase, time(), number),
        )

    def _take_over(self, session: int, number: int, outcome: Fate | None) -> Beginning:
        # How far the operation had come stays noted, in case this run is killed too.
        self.connection.execute(
            "UPDATE operations SET session = ? WHERE number = ?", (session, number)
        )
        return Beginning("interrupted", number, outcome, facts_of(self.connection, number))

    def note(self, number: int, phase: str, attempt: int, outcome: Fate | None) -> None:
        """Note how far an operation has come."""
        self.connection.execute(
            "UPDATE operations SET phase = ?, attempt = ?, outcome = ? WHERE number = ?",
            (phase, attempt, outcome, number),
        )

    def end(self, number: int, outcome: Fate, error: str | None) -> None:
        """Note how an operation ended."""
        self.connection.execute(
            "UPDATE operations SET outcome = ?, error = ?, ended = ? WHERE number = ?",
            (outcome, None if error is None else stored(error), time(), number),
        )

    def leave(self, identities: Sequence[str]) -> None:
        """Note operations that will not begin, unless the ledger knows them."""
        self.connection.executemany(
            "INSERT INTO operations "
            "(run, identity, session, phase, attempt, outcome, began, ended) "
            "VALUES (?, ?, 0, '', 0, 'left', ?, ?) ON CONFLICT DO NOTHING",
            [(self.run, stored(identity), time(), time()) for identity in identities],
        )

    # ---- facts ----

    def remember(self, number: int, facts: Mapping[str, str]) -> None:
        """Keep facts of an operation, each as JSON."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO facts (number, name, value) VALUES (?, ?, ?)",
            [(number, stored(name), value) for name, value in facts.items()],
        )

    def forget(self, number: int) -> None:
        """Drop the facts of an operation."""
        self.connection.execute("DELETE FROM facts WHERE number = ?", (number,))


def facts_of(connection: sqlite3.Connection, number: int) -> dict[str, Any]:
    """Return the facts of an operation."""
    rows = connection.execute("SELECT name, value FROM facts WHERE number = ?", (number,))
    return {loaded(name): json.loads(value) for name, value in rows}
