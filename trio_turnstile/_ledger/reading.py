"""Reads a ledger, even while a run writes it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal, final

import attrs

from trio_turnstile._engine.recording import LedgerError

from .schema import check_file, connect, loaded
from .store import facts_of


@final
@attrs.frozen
class LedgerEntry:
    """What a ledger knows of one operation."""

    number: int
    """Its number in the ledger: 1 for the operation that began first."""
    identity: str
    """The text by which it is known."""
    outcome: Literal["completed", "failed", "diverted", "cancelled", "left"] | None
    """How it ended, or will end once its clean-up has ended; ``None`` before that.

    It is ``"left"`` if it has never begun: see `Ledger.leave`.
    """
    phase: str
    """The last phase that is known to have begun."""
    attempt: int
    """The number of its last attempt, from 1."""
    error: str | None
    """Why it failed."""
    began: float
    """When it began, in seconds since 1970."""
    ended: float | None
    """When it ended, in seconds since 1970; ``None`` if it is running, or was interrupted."""
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """What its phases remembered."""

    @property
    def is_open(self) -> bool:
        """Whether it has begun and not ended: it is running, or was interrupted."""
        return self.ended is None


_COLUMNS = "number, identity, outcome, phase, attempt, error, began, ended"


def _entry(connection: sqlite3.Connection, row: Any) -> LedgerEntry:
    number, identity, outcome, phase, attempt, error, began, ended = row
    return LedgerEntry(
        number=number,
        identity=loaded(identity),
        outcome=outcome,
        phase=phase,
        attempt=attempt,
        error=None if error is None else loaded(error),
        began=began,
        ended=ended,
        facts=facts_of(connection, number),
    )


def open_entries(
    connection: sqlite3.Connection, run: int, *, but_of: Collection[int]
) -> list[LedgerEntry]:
    """Return the operations of a run that are open, except those of some sessions."""
    rows = connection.execute(
        f"SELECT session, {_COLUMNS} FROM operations WHERE run = ? AND ended IS NULL "
        "ORDER BY number",
        (run,),
    )
    return [_entry(connection, row) for session, *row in rows.fetchall() if session not in but_of]


@contextmanager
def read_ledger(
    path: str | os.PathLike[str], *, run: str | None = None
) -> Iterator[Iterator[LedgerEntry]]:
    """Open a ledger to read it, even while a run writes it; the block gets its entries.

    The entries come in the order in which the operations first began. They are read as you go.
    Reading blocks, so do it in a thread in a trio program.

    Args:
      path: the file.
      run: the name of the run, if it has one.

    Raises:
      LedgerError: if there is no ledger, it is damaged, or it has no run of this name.
    """
    file = Path(path)
    with ExitStack() as stack:
        with _refusing(file):
            if not check_file(file):
                raise LedgerError(f"there is no ledger {file}")
            connection = stack.enter_context(closing(connect(file, "ro")))
            number = _number_of(connection, file, run or "")
        yield _entries(connection, file, number)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(f"the ledger {path} cannot be read: {error}") from error


def _number_of(connection: sqlite3.Connection, path: Path, name: str) -> int:
    rows = connection.execute("SELECT name, run FROM runs")
    names = {loaded(name): number for name, number in rows}
    if name not in names:
        known = ", ".join(map(repr, names))
        raise LedgerError(f"the ledger {path} has no run {name!r}: it has {known or 'none'}")
    number = names[name]
    assert isinstance(number, int)
    return number


def _entries(connection: sqlite3.Connection, path: Path, run: int) -> Iterator[LedgerEntry]:
    query = f"SELECT {_COLUMNS} FROM operations WHERE run = ? ORDER BY number"
    with _refusing(path):
        rows = connection.execute(query, (run,))
    while True:
        with _refusing(path):
            row = rows.fetchone()
            entry = None if row is None else _entry(connection, row)
        if entry is None:
            return
        yield entry
