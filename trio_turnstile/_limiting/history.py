"""`History`: how busy limiters were over the last two hours, as samples and as averages.

Sans-I/O: samples come in, samples and averages go out. Samples are evenly spaced, so a
window is a number of samples.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import final

from trio_turnstile._util import check_seconds

from .events import Snapshot
from .track import Track

WINDOWS = (10, 20, 40, 60, 120, 180, 300, 600, 1200, 2400, 3600, 7200)
"""The windows of the averages, in seconds: 10 s, 20 s, 40 s, 1 to 40 min, 1 h, 2 h."""

STRETCH = 0.1
"""The share of a window's samples that may be missing. With more missing, it has no average."""


@final
class History:
    """Samples of every limiter of a turnstile over the last two hours.

    The samples of a closed limiter can be read for two hours, or until another limiter takes
    its name.

    Args:
      sample_every: seconds between two samples.
      start: when it begins: samples are taken at ticks, ``sample_every`` seconds apart, and
        this is tick 0.
    """

    def __init__(self, sample_every: float, start: float = 0.0) -> None:
        self._sample_every = sample_every
        self._start = start
        self._size = self._samples(WINDOWS[-1])
        self._tracks: dict[str, Track] = {}
        # In the order in which they ended. Taking the first entry from a plain dict is slow.
        self._ended: OrderedDict[str, None] = OrderedDict()

    # ---- for the turnstile ----

    def time(self, tick: int) -> float:
        """Return the time of a tick, in seconds."""
        return self._start + tick * self._sample_every

    def tick(self, time: float) -> int:
        """Return the last tick that is not after a time."""
        return math.floor((time - self._start) / self._sample_every)

    def begin(self, limiter: str) -> Track:
        """Begin a track for a limiter; a former one of that name had samples of its own."""
        self._ended.pop(limiter, None)
        track = self._tracks[limiter] = Track(self._size)
        return track

    def end(self, limiter: str) -> None:
        """End the track of a limiter that was closed."""
        if len(self._tracks[limiter]):
            self._ended[limiter] = None
        else:
            del self._tracks[limiter]

    def forget(self, now: int) -> None:
        """Forget the closed limiters that have no sample in the two hours before a tick."""
        while self._ended:
            limiter = next(iter(self._ended))
            if self._tracks[limiter].tick > now - self._size:
                break
            del self._ended[limiter], self._tracks[limiter]

    # ---- for everybody ----

    def latest(self, limiter: str) -> Snapshot | None:
        """Return the newest sample of the limiter of that name; ``None`` if there is none."""
        return next(self._newest_first(limiter), None)

    def samples(self, limiter: str, seconds: float = WINDOWS[-1]) -> list[Snapshot]:
        """Return the samples of the limiter of that name, oldest first.

        Args:
          limiter: the name of the limiter. An unknown limiter has no samples.
          seconds: how far to go back from its newest sample. Two hours are kept.

        Raises:
          TypeError, ValueError: if ``seconds`` is not a number of 0 or more.
        """
        check_seconds("seconds", seconds)
        found: list[Snapshot] = []
        for sample in self._newest_first(limiter):
            if found and found[0].time - sample.time >= seconds:
                break
            found.append(sample)
        return found[::-1]

    def averages(self, limiter: str) -> Mapping[int, float | None]:
        """Return the average of *running* over each window, keyed by its seconds.

        ``None`` stands for a window that is longer than the history so far, or in which
        samples are missing, for example after the clock jumped.
        """
        track = self._tracks.get(limiter)
        return {
            window: None if track is None else self._average(track, self._samples(window))
            for window in WINDOWS
        }

    # ---- inside ----

    def _average(self, track: Track, samples: int) -> float | None:
        if track.missing(samples) > STRETCH * samples:
            return None
        return track.average(samples)

    def _samples(self, window: int) -> int:
        return math.ceil(window / self._sample_every)

    def _newest_first(self, limiter: str) -> Iterator[Snapshot]:
        track = self._tracks.get(limiter)
        if track is not None:
            for tick, load in track.newest_first():
                time = self.time(tick)
                yield Snapshot(limiter, time, load.limit, load.running, load.waiting)
