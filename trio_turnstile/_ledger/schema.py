"""The file of a ledger: what is in it, and how to distinguish it from any other file.

A ledger is an SQLite database. An operation is *open* from the time it begins until its end is
noted in ``ended``; while it cleans up, its outcome is known already. So every operation that is
open in a ledger that no process uses was interrupted.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from trio_turnstile._engine.recording import LedgerError

APPLICATION = 0x74747374
"""Marks an SQLite database as a ledger."""

VERSION = 1
"""The version of the schema."""

SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
CREATE TABLE runs (
    run INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL
);
CREATE TABLE sessions (
    session INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    host TEXT NOT NULL,
    process INTEGER NOT NULL,
    began REAL NOT NULL,
    ended REAL
);
CREATE TABLE operations (
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    identity NOT NULL,
    session INTEGER NOT NULL,
    phase TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    outcome TEXT,
    error TEXT,
    began REAL NOT NULL,
    ended REAL,
    UNIQUE (run, identity)
);
CREATE INDEX open_operations ON operations (run) WHERE ended IS NULL;
CREATE TABLE facts (
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (number, name)
) WITHOUT ROWID;
COMMIT;
"""

_HEADER = 100
_MAGIC = b"SQLite format 3\x00"


def check_file(path: Path) -> bool:
    """Return whether there is a ledger at ``path``; an empty file does not count.

    The file is only read.

    Raises:
      LedgerError: if it is something else, is torn, or has an unknown version.
      OSError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    if not header:
        return False
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise LedgerError(f"{path} is not a ledger, and was left as it is: give another name")
    if _number(header, 68, 4) != APPLICATION:
        raise LedgerError(
            f"{path} is a database of something else, and was left as it is: give another name"
        )
    version = _number(header, 60, 4)
    if version != VERSION:
        raise LedgerError(
            f"{path} is a ledger of version {version}, and this is for version {VERSION}: "
            "use the release that made it, or give another name"
        )
    page = _number(header, 16, 2)
    whole = (65536 if page == 1 else page) * _number(header, 28, 4)
    # A kill during a checkpoint leaves such a file, and the missing part in the log beside it.
    if size < whole and not _has_log(path):
        raise LedgerError(f"{path} is torn: its end is missing. It was left as it is")
    return True


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _number(header: bytes, start: int, length: int) -> int:
    return int.from_bytes(header[start : start + length], "big")


def check_whole_file(path: Path) -> None:
    """Raise `LedgerError` if a part of the ledger is damaged."""
    try:
        with closing(connect(path, "ro")) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    if verdict != "ok":
        raise LedgerError(f"{path} is damaged, and was left as it is: {verdict}")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a database, without Python's transactions; for any thread, one at a time."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def stored(text: str) -> str | bytes:
    """Return how a text is kept: as it is, or as bytes if it is not valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def loaded(value: str | bytes) -> str:
    """Return the text from which `stored` made ``value``."""
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")
