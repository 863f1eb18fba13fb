"""Calls that no longer finish, noticed before any of them is late enough to time out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from ._meter import AGES, Reading

EXPECTED = 20
"""Calls that should have finished before their absence is noticed."""


@final
class Drought:
    """Counts the calls that finish beside those that should."""

    def __init__(self) -> None:
        self.finished: int = 0
        """Calls that have succeeded since the watch began."""
        self._since = math.inf

    def watch(self, since: float) -> None:
        """Begin to watch at a time in seconds; at infinity for not at all."""
        self._since, self.finished = since, 0

    def noticed(self, now: float, normal: Reading, limit: int) -> Mapping[str, object] | None:
        """Return the evidence if less than a quarter of the calls expected have finished.

        Of a limit under the normal number of calls in flight no more is expected than its share.
        """
        if self._since == math.inf:
            self.watch(now)
        span = now - self._since
        rate = normal.rate * min(1.0, limit / normal.in_flight)
        if span < max(2 * AGES * normal.age, EXPECTED / rate):
            return None
        expected, finished = rate * span, self.finished
        self.watch(now)
        return {"expected": expected, "finished": finished} if 4 * finished < expected else None
