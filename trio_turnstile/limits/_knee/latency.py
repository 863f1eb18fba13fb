"""A robust estimate of the latency of a few calls, and of how much single calls differ.

If one call in five takes ten times as long as the others, the mean of ten calls says how many of
the slow calls were among them, and little else. The location here is Huber's estimate ("Robust
Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964): a mean in which
every value farther away than a given width counts as if it lay at that width. A few calls of
another kind hardly move it, and for calls of one kind it is nearly as precise as the mean. The
estimate works on the square roots of the latencies, in which a long tail is shorter.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from statistics import fmean, median
from typing import final

NEW_READING_WEIGHT = 0.3
"""Weight of the newest reading in the exponential means of the spread (taste)."""
HUBER_WIDTH_SDS = 2.0
"""Huber's width, in robust standard deviations. Textbooks use 1.5; 2 keeps more of the calls
(taste)."""
MIN_HUBER_WIDTH = 0.2
"""The least width, as a share of the location, so that equal latencies do not make the width 0
(taste)."""
SDS_PER_MAD = 1.483
"""The standard deviation of a normal distribution over its median absolute deviation: 1 / 0.6745
(theory)."""
HUBER_STEPS = 10
"""Iterations of Huber's estimate. It hardly moves after the third: with 1 in place of 10 the
scores of `benchmarks.ablation` fall by 0.1 to 0.2."""
MIN_SHARE_INSIDE = 0.5
"""The least share of values inside the width that the standard error is divided by. If the width
comes from the same values, at least half of them are inside (theory)."""
INITIAL_CV = 0.5
"""The coefficient of variation that is assumed before the first reading (taste)."""


@final
class LatencyEstimator:
    """Estimates the location of latencies, and learns how much single latencies differ."""

    def __init__(self) -> None:
        self.cv: float = INITIAL_CV
        """Coefficient of variation of the latency: standard deviation over mean."""
        self.error: float = INITIAL_CV
        """Relative standard error of the location, if it came from one call."""
        self.skew: float = 1.0
        """The mean latency over the location."""
        self._mad = 0.0  # of the roots, relative, scaled to a standard deviation
        self._guessed = True

    def update(self, latencies: Sequence[float]) -> float:
        """Learn from the latencies of one reading how calls differ, and return their location.

        Args:
          latencies: of at least one call, in seconds.

        Returns:
          The location, in seconds.
        """
        roots = sorted(map(sqrt, latencies))
        middle, mean = median(roots), fmean(latencies)
        if len(roots) < 2 or not middle:  # no spread in one call, nor in calls that took no time
            return mean
        self._mad = self._smoothed(self._mad, _mad(roots, middle))
        width = max(MIN_HUBER_WIDTH, HUBER_WIDTH_SDS * self._mad) * middle
        location = _huber(roots, middle, width)
        error = 2 * _standard_error(roots, location, width) / location
        self.error = self._smoothed(self.error, error)
        # Products, since powers go through the C library and are not exact under scaling.
        root = fmean(roots)
        self.skew = self._smoothed(self.skew, mean / (location * location))
        self.cv = self._smoothed(self.cv, 2 * sqrt(max(0.0, mean / (root * root) - 1)))
        self._guessed = False
        return location * location

    def _smoothed(self, known: float, seen: float) -> float:
        return seen if self._guessed else known + NEW_READING_WEIGHT * (seen - known)


def _mad(ordered: Sequence[float], middle: float) -> float:
    """Return the relative median absolute deviation, scaled to a standard deviation."""
    return SDS_PER_MAD * median(abs(value - middle) for value in ordered) / middle


def _huber(ordered: Sequence[float], middle: float, width: float) -> float:
    """Return Huber's location: the mean, with distant values drawn in to ``width`` from it."""
    sums = [0.0, *accumulate(ordered)]
    for _ in range(HUBER_STEPS):
        low, high = middle - width, middle + width
        first, last = bisect_left(ordered, low), bisect_right(ordered, high)
        inside, above = sums[last] - sums[first], len(ordered) - last
        middle = (first * low + inside + above * high) / len(ordered)
    return middle


def _standard_error(values: Sequence[float], location: float, width: float) -> float:
    """Return the standard error of Huber's estimate, times the root of the number of values.

    By his theorem it is the standard deviation of the values when drawn in, over the share of
    the values inside the width.
    """
    off = [abs(value - location) for value in values]
    inside = sum(distance <= width for distance in off) / len(off)
    drawn_in = (min(width, distance) for distance in off)
    variance = fmean(distance * distance for distance in drawn_in)
    return sqrt(variance) / max(MIN_SHARE_INSIDE, inside)
