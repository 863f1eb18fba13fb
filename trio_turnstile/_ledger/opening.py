"""Opens the file of a ledger: makes it, or checks that it fits, and refuses a file that does not.

All of it blocks, so it runs in a thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Literal, TypeAlias, final

import attrs

from trio_turnstile._engine.recording import Differences, LedgerError

from .lock import take_lock
from .overrides import TABLE
from .schema import SCHEMA, check_file, check_whole_file, connect, stored
from .store import Store

Synchronous: TypeAlias = Literal["off", "normal", "full", "extra"]
"""How often SQLite waits until data has reached the disk."""

Fingerprint: TypeAlias = Mapping[str, str]
"""Texts by name that have to be the same when a run goes on."""


@final
@attrs.frozen(eq=False)
class OpenFile:
    """A ledger that is open for writing."""

    path: Path
    store: Store
    _lock: sqlite3.Connection

    def close(self) -> None:
        """Close it, so that others can open it."""
        with ExitStack() as stack:
            stack.callback(self._lock.close)
            stack.callback(self.store.connection.close)


def open_file(
    path: Path,
    run: str,
    fingerprint: Fingerprint,
    *,
    synchronous: Synchronous,
    accept_changes: bool,
    fresh: bool,
) -> OpenFile:
    """Open a ledger, and make it if there is none.

    Raises:
      LedgerError: if it is in use, is not a ledger, is damaged, or cannot be opened; or if its
        run has another fingerprint.
    """
    with ExitStack() as stack:
        try:
            exists = check_file(path)
            lock = take_lock(path)
            stack.callback(lock.close)
            if exists:
                check_whole_file(path)
            else:
                _make_file(path)
            connection = connect(path, "rw")
            stack.callback(connection.close)
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(TABLE)
            if fresh:
                _forget_run(connection, run)
            number = _enter_run(connection, path, run, fingerprint, accept=accept_changes)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the ledger {path} cannot be opened: {error}") from error
        stack.pop_all()
    return OpenFile(path, Store(connection, number), lock)


def _forget_run(connection: sqlite3.Connection, name: str) -> None:
    operations = "SELECT number FROM operations NATURAL JOIN runs WHERE name = ?"
    connection.execute(f"DELETE FROM facts WHERE number IN ({operations})", (name,))
    connection.execute(f"DELETE FROM operations WHERE number IN ({operations})", (name,))
    runs = "SELECT run FROM runs WHERE name = ?"
    connection.execute(f"DELETE FROM overrides WHERE run IN ({runs})", (name,))
    connection.execute("DELETE FROM runs WHERE name = ?", (name,))


def _make_file(path: Path) -> None:
    """Make an empty ledger, whole or not at all."""
    target = path.resolve()
    new = target.with_name(f"{target.name}-new")
    try:
        new.unlink(missing_ok=True)
        with closing(connect(new, "rwc")) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
        for end in ("-wal", "-shm"):  # of a ledger that was removed
            target.with_name(target.name + end).unlink(missing_ok=True)
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _enter_run(
    connection: sqlite3.Connection, path: Path, name: str, fingerprint: Fingerprint, *, accept: bool
) -> int:
    """Return the number of the run of this name, with this fingerprint from now on."""
    text = json.dumps(dict(fingerprint), sort_keys=True)
    key = stored(name)
    row = connection.execute("SELECT run, fingerprint FROM runs WHERE name = ?", (key,)).fetchone()
    if row is None:
        connection.execute("INSERT INTO runs (name, fingerprint) VALUES (?, ?)", (key, text))
        return _enter_run(connection, path, name, fingerprint, accept=accept)
    number, before = row
    assert isinstance(number, int)
    differences = _compare(json.loads(before), fingerprint)
    if differences and not accept:
        lines = [f"{key} was {_shown(a)} and is {_shown(b)}" for key, (a, b) in differences.items()]
        raise LedgerError(
            f"the ledger {path} is from a different run: {'; '.join(lines)}. "
            "Accept the changes, or give another name",
            differences,
        )
    # Even if nothing differs: SQLite notices that a file is read-only only when it writes.
    connection.execute("UPDATE runs SET fingerprint = ? WHERE run = ?", (text, number))
    return number


def _shown(text: str | None) -> str:
    return "absent" if text is None else repr(text)


def _compare(before: Mapping[str, str], now: Mapping[str, str]) -> Differences:
    names = [*before, *(name for name in now if name not in before)]
    return {
        name: (before.get(name), now.get(name))
        for name in names
        if before.get(name) != now.get(name)
    }
