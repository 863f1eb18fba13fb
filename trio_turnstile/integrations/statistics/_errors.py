"""The errors that are raised when statistics cannot be recorded or read."""

from __future__ import annotations

from typing import final


@final
class StatisticsError(Exception):
    """A database cannot be used: it does not exist, or its tables are unknown."""


def reason(error: Exception) -> str:
    """Return what is wrong with a database, without the statement that failed."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:500]}"
