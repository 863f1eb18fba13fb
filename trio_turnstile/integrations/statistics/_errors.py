"""What is raised when statistics cannot be recorded or read."""

from __future__ import annotations

from typing import final


@final
class StatisticsError(Exception):
    """A database cannot be used for statistics: it is no database, or of a newer version."""
