"""`Charts`: how busy a limiter was, from the samples in memory and from earlier records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, final

import attrs
import trio

from trio_turnstile import Turnstile

from ._documents import HistoryDoc, finite
from ._past import Found, Past
from ._queries import HistoryQuery

Row: TypeAlias = tuple[float, float, float, float]
"""A Unix time, the limit, running, waiting."""


@final
@attrs.define(eq=False)
class Charts:
    """The samples of the limiters of a turnstile. It is used only in the trio run."""

    _turnstile: Turnstile
    _past: Past | None

    @property
    def has_past(self) -> bool:
        """Whether there are more samples than those in memory."""
        return self._past is not None

    async def history(self, limiter: str, query: HistoryQuery) -> HistoryDoc:
        """Return the history of a limiter, thinned out to a number of points.

        Without ``since``, it has only the samples in memory.
        """
        until = self._wall_time(trio.current_time()) if query.until is None else query.until
        since = -math.inf if query.since is None else query.since
        memory = self._memory(limiter)
        begins = min([until, *(row[0] for row in memory[:1])])
        within = [row for row in memory if since <= row[0] <= until]
        if self._past is None or query.since is None or begins <= since:
            return _columns(limiter, _thinned(within, query.points), None)
        share = math.ceil(query.points * (begins - since) / (until - since))
        found = await self._past.read(limiter, since, begins, max(2, share))
        rows = _rows(found) + _thinned(within, max(2, query.points - share))
        return _columns(limiter, rows[-query.points :], found.missing)

    def _wall_time(self, time: float) -> float:
        return self._turnstile.opened.wall_time_of(time)

    def _memory(self, limiter: str) -> list[Row]:
        return [
            (self._wall_time(sample.time), sample.limit, sample.running, sample.waiting)
            for sample in self._turnstile.history.samples(limiter)
        ]


def _rows(found: Found) -> list[Row]:
    return [(point.time, point.limit, point.running, point.waiting) for point in found.points]


def _thinned(rows: Sequence[Row], points: int) -> list[Row]:
    every = max(1, math.ceil(len(rows) / points))
    return list(rows[::-1][::every][::-1])  # always including the newest


def _columns(limiter: str, rows: Sequence[Row], missing: str | None) -> HistoryDoc:
    columns = HistoryDoc(limiter, [], [], [], [], missing)
    for time, limit, running, waiting in rows:
        columns.times.append(time)
        columns.limit.append(finite(limit))
        columns.running.append(running)
        columns.waiting.append(waiting)
    return columns
