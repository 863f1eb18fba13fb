"""`Durations`: a histogram of the durations of calls, for each step and outcome."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import final

from trio_turnstile import CallOutcome, LiveRun

from ._metrics import Numbers
from ._text import number_text

NAME = "turnstile_step_duration_seconds"

SERIES = 1000
"""The most histograms there are; calls of further steps and outcomes are not counted."""


@final
class Durations:
    """Counts calls by their durations.

    Args:
      buckets: the upper bounds of the buckets, in seconds, ascending.
    """

    def __init__(self, buckets: Sequence[float]) -> None:
        self._buckets = tuple(buckets)
        if list(self._buckets) != sorted(set(self._buckets)):
            raise ValueError(f"buckets must be seconds in ascending order, not {buckets!r}")
        self._ends = [number_text(end) for end in (*self._buckets, math.inf)]
        self._counts: dict[tuple[str, str, str], list[int]] = {}
        self._sums: dict[tuple[str, str, str], float] = {}

    def __call__(self, run: LiveRun, part: str, seconds: float, outcome: CallOutcome, /) -> None:
        """Count a call."""
        key = run.name, part, outcome
        if key not in self._counts:
            if len(self._counts) >= SERIES:
                return
            self._counts[key] = [0] * len(self._ends)
            self._sums[key] = 0.0
        self._counts[key][bisect_left(self._buckets, seconds)] += 1
        self._sums[key] += seconds

    def add_to(self, numbers: Numbers) -> None:
        """Add the histograms to other numbers."""
        for key, counts in self._counts.items():
            for end, count in zip(self._ends, accumulate(counts), strict=True):
                numbers[f"{NAME}_bucket", *key, end] = count
            numbers[f"{NAME}_sum", *key] = self._sums[key]
            numbers[f"{NAME}_count", *key] = sum(counts)
