"""Calls that no longer finish, noticed before a reading is complete or any of them times out.

A running sum (Page's CUSUM, Biometrika 1954) of the calls that should have finished less those that
did: it stays near 0 while the pace is kept, and climbs as soon as it is not.
"""

from __future__ import annotations

import math
from typing import final

from .meter import AGES, BUSY, Reading

ENOUGH = 0.8
"""The share of the pace known that is good enough: what is asked for is this much, and less if
the pace was read from few calls."""
FEW, ROUGHLY, SCATTERED = 10.0, 3.0, 25.0
"""Calls that may be missing by chance: a few; or so many times the root of the limit, as the calls
of a moment start together; and so many times the square of the scatter, as their times differ."""
PATIENCE = 1.5
"""Nothing is missed sooner than after this many round trips."""


@final
class Drought:
    """Counts the calls that should have finished, and have not."""

    def __init__(self) -> None:
        self.finished: int = 0
        """Calls that have succeeded since the watch was last asked."""
        self._missing = 0.0
        self._since = self._asked = 0.0

    def noticed(
        self, now: float, normal: Reading | None, limit: int, in_flight: int, scatter: float
    ) -> float:
        """Return how many calls are missing, if it is more than chance explains; else 0.

        Nothing is expected before there was a normal reading, nor while the limit is not in use
        or not kept to; and of a limit under the normal number of calls in flight its share.
        """
        if normal is None or not BUSY * limit <= in_flight <= limit:
            return self._watch(now)
        rate = normal.rate * min(1.0, limit / normal.in_flight)
        sure = ENOUGH * rate * math.exp(-normal.error(scatter))
        self._missing += sure * (now - self._asked) - self.finished
        self._asked, self.finished = now, 0
        if self._missing <= 0:
            return self._watch(now)
        chance = max(FEW, ROUGHLY * math.sqrt(limit)) + SCATTERED * scatter * scatter
        if self._missing < chance or now - self._since < PATIENCE * AGES * normal.age:
            return 0.0
        return self._missing

    def _watch(self, since: float) -> float:
        self._since = self._asked = since
        self._missing, self.finished = 0.0, 0
        return 0.0
