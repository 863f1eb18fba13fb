"""Statistics of a turnstile in a database: ``pip install 'trio-turnstile[stats]'``.

`record_statistics` writes them to SQLite or PostgreSQL while the program runs. Read them with
``turnstile report``, with `read_statistics`, on the dashboard page through a `RecordedHistory`, or
with any tool that speaks SQL.
"""

from __future__ import annotations

from ._errors import StatisticsError
from ._history import RecordedHistory
from ._read import read_statistics
from ._recorder import RecorderStatistics
from ._recording import Recording, record_statistics
from ._records import (
    DecisionRecord,
    ErrorRecord,
    LimiterRecord,
    Point,
    Progress,
    RunRecord,
    SessionRecord,
    StepRecord,
)

__all__ = [
    "DecisionRecord",
    "ErrorRecord",
    "LimiterRecord",
    "Point",
    "Progress",
    "RecordedHistory",
    "RecorderStatistics",
    "Recording",
    "RunRecord",
    "SessionRecord",
    "StatisticsError",
    "StepRecord",
    "read_statistics",
    "record_statistics",
]
