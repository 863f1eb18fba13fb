"""Detects that calls no longer finish, before a reading is complete or a call times out.

The detector is a CUSUM (Page, Biometrika 41, 1954): a running sum of the calls that should have
finished, less those that did. The sum stays near 0 while the service keeps its pace, and climbs as
soon as it does not.
"""

from __future__ import annotations

import math
from typing import final

from .meter import BUSY_SHARE, READING_AGES, Reading

EXPECTED_SHARE = 0.8
"""The share of the known pace that is expected (taste). Less is expected if the pace was read from
few calls."""
CHANCE_CALLS = 10.0
"""Calls that may be missing by chance, at any limit (taste)."""
CHANCE_PER_ROOT = 3.0
"""Calls that may be missing by chance, per square root of the limit, because calls that start
together also end together (tuned)."""
CHANCE_PER_VARIANCE = 25.0
"""Calls that may be missing by chance, per squared coefficient of variation, because latencies
differ (tuned)."""
MIN_TRIPS = 1.5
"""Round trips before any call is called missing (taste)."""


@final
class StallDetector:
    """Counts the calls that should have finished, and did not."""

    def __init__(self) -> None:
        self.finished: int = 0
        """Calls that have succeeded since the last call of `missing`."""
        self._sum = 0.0
        self._since = self._asked = 0.0

    def missing(
        self, now: float, normal: Reading | None, limit: int, in_flight: int, cv: float
    ) -> float:
        """Return how many calls are missing, or 0 if chance explains the number.

        Nothing is expected before the first normal reading, nor while the limit is not used or
        exceeded. Below the normal number of calls in flight, the expected pace is proportional.

        Args:
          now: the time, in seconds.
          normal: the latest reading.
          limit: the limit, in calls.
          in_flight: calls in flight.
          cv: coefficient of variation of the latency.
        """
        if normal is None or not BUSY_SHARE * limit <= in_flight <= limit:
            return self._restart(now)
        rate = normal.rate * min(1.0, limit / normal.in_flight)
        expected = EXPECTED_SHARE * rate * math.exp(-normal.error(cv))
        self._sum += expected * (now - self._asked) - self.finished
        self._asked, self.finished = now, 0
        if self._sum <= 0:
            return self._restart(now)
        chance = (
            max(CHANCE_CALLS, CHANCE_PER_ROOT * math.sqrt(limit)) + CHANCE_PER_VARIANCE * cv * cv
        )
        if self._sum < chance or now - self._since < MIN_TRIPS * READING_AGES * normal.age:
            return 0.0
        return self._sum

    def _restart(self, now: float) -> float:
        self._since = self._asked = now
        self._sum, self.finished = 0.0, 0
        return 0.0
