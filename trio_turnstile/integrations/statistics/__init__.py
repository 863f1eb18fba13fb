"""Statistics of a turnstile in a database: ``pip install 'trio-turnstile[stats]'``.

`record_statistics` writes them while the program runs, to SQLite or PostgreSQL. They are read by
``turnstile report``, by `read_statistics`, or by anything that speaks SQL.
"""

from __future__ import annotations

from ._errors import StatisticsError
from ._recorder import RecorderStatistics
from ._recording import Recording, record_statistics

__all__ = ["RecorderStatistics", "Recording", "StatisticsError", "record_statistics"]
