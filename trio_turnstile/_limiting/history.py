"""`History`: averages of how many tokens were in use, over windows up to two hours.

Sans-I/O: samples come in, averages go out. Samples are evenly spaced, so a window is a
number of samples. The history keeps running sums, so that every average is one subtraction,
whatever its window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import final

import attrs

from .events import Snapshot

WINDOWS = (10, 20, 40, 60, 120, 180, 300, 600, 1200, 2400, 3600, 7200)
"""The windows of the averages, in seconds: 10 s, 20 s, 40 s, 1 to 40 min, 1 h, 2 h."""


@final
@attrs.define(eq=False)
class _Track:
    """The samples of one limiter, as running sums of `Snapshot.running`."""

    latest: Snapshot
    sums: deque[int]


@final
class History:
    """Samples of every limiter of a turnstile over the last two hours.

    It keeps one number for each sample, also after the limiter was closed.
    """

    def __init__(self, sample_every: float) -> None:
        self._sample_every = sample_every
        self._tracks: dict[str, _Track] = {}

    def add(self, sample: Snapshot) -> None:
        """Add one sample; the turnstile does so every ``sample_every`` seconds."""
        track = self._tracks.get(sample.limiter)
        if track is None:
            track = _Track(sample, deque([0], maxlen=self._samples(WINDOWS[-1]) + 1))
            self._tracks[sample.limiter] = track
        track.latest = sample
        track.sums.append(track.sums[-1] + sample.running)

    def latest(self, limiter: str) -> Snapshot | None:
        """Return the newest sample of the limiter of that name; ``None`` if there is none."""
        track = self._tracks.get(limiter)
        return None if track is None else track.latest

    def averages(self, limiter: str) -> Mapping[int, float | None]:
        """Return the average of *running* over each window, keyed by its seconds.

        ``None`` stands for a window that is longer than the history so far.
        """
        track = self._tracks.get(limiter)
        return {
            window: None if track is None else self._average(track.sums, window)
            for window in WINDOWS
        }

    def _average(self, sums: deque[int], window: int) -> float | None:
        samples = self._samples(window)
        if not 0 < samples < len(sums):
            return None
        return (sums[-1] - sums[-1 - samples]) / samples

    def _samples(self, window: int) -> int:
        return math.ceil(window / self._sample_every)
