"""A lock that lets one process write a ledger, and lets others read it meanwhile.

The lock of the database itself would not do, because it is given back after each commit. So this
lock is held on a second database, which stays empty: SQLite locks files in the way of each system,
and a process that dies gives its locks back.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from trio_turnstile._engine.recording import LedgerError

from .schema import connect


def take_lock(path: Path) -> sqlite3.Connection:
    """Return a connection that holds the lock until it is closed.

    Raises:
      LedgerError: if another process, or another part of this one, holds it.
    """
    connection = connect(path.with_name(f"{path.name}-lock"), "rwc")
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        connection.close()
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        raise LedgerError(
            f"the ledger {path} is in use: wait until the run that writes it has ended, "
            f"or give another name ({error})"
        ) from None
    return connection
