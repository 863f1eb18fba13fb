"""The pace at home: what a probe is compared with, and what shows that the service changes."""

from __future__ import annotations

import math
from typing import final

from ._meter import Reading

SAME = 0.5
"""Readings at the same limit differ by no more calls in flight."""
CERTAIN = 2.0
"""Standard errors that a fall of the pace must exceed to count as drift."""


@final
class Baseline:
    """The readings of the present rest at home, and of the one before."""

    def __init__(self) -> None:
        self.present: Reading | None = None
        """All of the present rest."""
        self.latest: Reading | None = None
        """Whatever was read last: calls that do not keep up with it are missed."""
        self.drift: float = 0.0
        """How fast the pace at home falls, in logarithms per second: 0, or less than 0.

        Where capacity goes down steadily, every probe down would seem to cost throughput. A pace
        that rises is left in: it makes probes up pay, which is right.
        """
        self._former: Reading | None = None

    def begin(self) -> None:
        """Begin a rest; what was known stays known until more is."""
        self._former, self.present = self.present or self._former, None

    def forget(self) -> None:
        """Begin a rest at a limit where nothing known holds."""
        self._former = self.present = self.latest = None

    def contradicted(self, reading: Reading, scatter: float) -> Reading | None:
        """Return what was known, and go by it again, if a reading shows a change of the service."""
        known = self.present or self._former
        if known is None or not reading.differs(known, scatter):
            return None
        self.latest = known
        return known

    def add(self, reading: Reading, scatter: float) -> Reading:
        """Return all of the present rest, another reading included."""
        self.present = reading if self.present is None else self.present.plus(reading)
        self.latest = self.present
        self.drift = _drift(self._former, self.present, scatter)
        return self.present


def _drift(former: Reading | None, present: Reading, scatter: float) -> float:
    if former is None or abs(former.in_flight - present.in_flight) > SAME:
        return 0.0
    change = math.log(present.pace / former.pace)
    chance = CERTAIN * scatter * math.sqrt(1 / former.calls + 1 / present.calls)
    return change / (present.middle - former.middle) if change < -chance else 0.0
