"""What the latencies of a few calls are about, and how much single calls differ from that.

Where one call in five takes ten times as long as the others, the mean of ten calls tells how many
of the slow ones were among them, and little else. Typical is instead Huber's estimate ("Robust
Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964): a mean in which
what is far off counts as if it were just so far. A few calls of another kind hardly move it, and of
calls of one kind it is nearly as sure as their mean. It is taken of the roots of the latencies, in
which a long tail is shorter.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from statistics import fmean, median
from typing import final

FRESH = 0.3
"""The share of the newest calls in what is known of how calls differ."""
FAR, NEAR = 2.0, 0.2
"""A root is far off if it is so many standard deviations from what is typical, and not if it is
within this share of it."""
SIGMA = 1.483
"""The standard deviation of a normal distribution, in median distances from its middle."""
STEPS = 10
"""So often the estimate is bettered; it moves little after the third time."""


@final
class Spread:
    """Learns how calls differ, and finds what is typical of them."""

    def __init__(self) -> None:
        self.scatter: float = 0.5
        """Relative standard deviation of the latency; a guess until the first calls."""
        self.error: float = 0.5
        """Relative standard error of the typical latency, if it was found from one call."""
        self.skew: float = 1.0
        """The mean latency, in typical ones."""
        self._distance = 0.0  # relative standard deviation of the roots of usual calls
        self._guessed = True

    def learn(self, latencies: Sequence[float]) -> float:
        """Learn from some calls, at least one, how calls differ; return what is typical of them.

        Args:
          latencies: of each call, in seconds.

        Returns:
          The typical latency, in seconds.
        """
        roots = sorted(map(sqrt, latencies))
        middle, mean = median(roots), fmean(latencies)
        if len(roots) < 2 or not middle:  # one call tells nothing, nor do some that take no time
            return mean
        self._distance = self._with(self._distance, _distance(roots, middle))
        width = max(NEAR, FAR * self._distance) * middle
        typical = _huber(roots, middle, width)
        self.error = self._with(self.error, 2 * _deviation(roots, typical, width) / typical)
        # Products, as powers go through the C library and are not exact under scaling.
        root = fmean(roots)
        self.skew = self._with(self.skew, mean / (typical * typical))
        self.scatter = self._with(self.scatter, 2 * sqrt(max(0.0, mean / (root * root) - 1)))
        self._guessed = False
        return typical * typical

    def _with(self, known: float, seen: float) -> float:
        return seen if self._guessed else known + FRESH * (seen - known)


def _distance(ordered: Sequence[float], middle: float) -> float:
    return SIGMA * median(abs(value - middle) for value in ordered) / middle


def _huber(ordered: Sequence[float], middle: float, width: float) -> float:
    """Return the mean of values, those farther from it than ``width`` drawn in to there."""
    sums = [0.0, *accumulate(ordered)]
    for _ in range(STEPS):
        low, high = middle - width, middle + width
        first, last = bisect_left(ordered, low), bisect_right(ordered, high)
        inside, above = sums[last] - sums[first], len(ordered) - last
        middle = (first * low + inside + above * high) / len(ordered)
    return middle


def _deviation(values: Sequence[float], typical: float, width: float) -> float:
    """Return the standard error of Huber's estimate, times the root of the number of values.

    (Their variance when drawn in, over the share of those inside: by his theorem. Half are inside
    if the width is of these values; if it is of others, it is not the share that is to be doubted.)
    """
    off = [abs(value - typical) for value in values]
    inside = sum(distance <= width for distance in off) / len(off)
    drawn_in = (min(width, distance) for distance in off)
    return sqrt(fmean(distance * distance for distance in drawn_in)) / max(0.5, inside)
