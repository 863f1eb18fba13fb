"""The samples of a limiter, added up by the minute. Pure.

A minute is written as a whole each time that samples for it come, so writing it twice does no
harm. For this, the last minute of each limiter is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import final

from ._rows import Row

MINUTE = 60_000
"""A minute in milliseconds."""


@final
class Minutes:
    """The last minute of each limiter, by the number of the limiter."""

    def __init__(self) -> None:
        self._last: dict[int, Row] = {}

    def touched(self, samples: Iterable[Row]) -> list[Row]:
        """Return the minutes of some samples, including earlier samples of these minutes.

        Args:
          samples: the samples; those of one limiter are in order of time.
        """
        last: dict[int, Row] = {}
        rows: list[Row] = []
        for sample in samples:
            limiter, minute = sample["limiter"], sample["taken"] // MINUTE * MINUTE
            row = last.get(limiter)
            if row is None or row["taken"] != minute:
                row = last[limiter] = self._begin(limiter, minute, sample)
                rows.append(row)
            _add(row, sample)
        return rows

    def remember(self, rows: Iterable[Row]) -> None:
        """Remember the minutes that were written."""
        self._last |= {row["limiter"]: row for row in rows}
        newest = max((row["taken"] for row in self._last.values()), default=0)
        self._last = {
            key: row for key, row in self._last.items() if row["taken"] >= newest - MINUTE
        }

    def _begin(self, limiter: int, minute: int, sample: Row) -> Row:
        before = self._last.get(limiter)
        if before is not None and before["taken"] == minute:
            return dict(before)
        return {
            "limiter": limiter,
            "taken": minute,
            "samples": 0,
            "saturated": 0,
            "tokens_min": sample["tokens"],
            "tokens_max": sample["tokens"],
            "running_sum": 0,
            "running_max": 0,
            "waiting_sum": 0,
            "waiting_max": 0,
        }


def _add(row: Row, sample: Row) -> None:
    limit, running, waiting = sample["tokens"], sample["running"], sample["waiting"]
    row["samples"] += 1
    row["saturated"] += is_saturated(sample)
    row["tokens_min"] = _least(row["tokens_min"], limit)
    row["tokens_max"] = (
        None if None in (row["tokens_max"], limit) else max(row["tokens_max"], limit)
    )
    row["running_sum"] += running
    row["running_max"] = max(row["running_max"], running)
    row["waiting_sum"] += waiting
    row["waiting_max"] = max(row["waiting_max"], waiting)


def is_saturated(sample: Mapping[str, float | None]) -> bool:
    """Tell whether there was something to do, but no token was left."""
    limit, running = sample["tokens"], sample["running"] or 0
    busy = running or sample["waiting"]
    return bool(busy) and limit is not None and running >= limit


def _least(one: float | None, other: float | None) -> float | None:
    """Return the lower limit; ``None`` stands for no limit."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
