"""What is raised when statistics cannot be recorded or read."""

from __future__ import annotations

from typing import final


@final
class StatisticsError(Exception):
    """A database cannot be used: it is not there, or its tables are none that are known."""


def reason(error: Exception) -> str:
    """Return what is wrong with a database, without the statement that failed."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:500]}"
