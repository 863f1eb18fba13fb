"""Calls that no longer finish, noticed before any of them is late enough to time out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from ._meter import AGES, BUSY, Reading

EXPECTED = 20
"""Calls that should have finished before their absence is noticed."""


@final
class Drought:
    """Counts the calls that finish beside those that should."""

    def __init__(self) -> None:
        self.finished: int = 0
        """Calls that have succeeded since the watch began."""
        self._since = math.inf

    def noticed(
        self, now: float, normal: Reading | None, limit: int, in_flight: int
    ) -> Mapping[str, object] | None:
        """Return the evidence if less than a quarter of the calls expected have finished.

        Nothing is expected before there was a normal reading, nor while the limit is not in use
        or not kept to; and of a limit under the normal number of calls in flight its share.
        """
        if normal is None or not BUSY * limit <= in_flight <= limit:
            self._since = math.inf
            return None
        if self._since == math.inf:
            self._watch(now)
        span = now - self._since
        rate = normal.rate * min(1.0, limit / normal.in_flight)
        if span < max(2 * AGES * normal.age, EXPECTED / rate):
            return None
        expected, finished = rate * span, self.finished
        self._watch(now)
        return {"expected": expected, "finished": finished} if 4 * finished < expected else None

    def _watch(self, since: float) -> None:
        self._since, self.finished = since, 0
