"""`Track`: the samples of one limiter, run-length encoded.

Sans-I/O. Samples are taken at ticks, which are equally far apart. If a service has thousands of
limiters, most of them are idle, so a sample that equals the one before costs only a comparison.
A sample that differs gets a row of 24 bytes. Two hours of samples every two seconds, each
different from the one before, take 86 kB.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from struct import Struct
from typing import final

from .events import Load

ROW = Struct("=QQII")
"""The first sample of a run: its number, the sum of *running* of all samples before it, and
its limit and waiting. Its *running* follows from the next row."""

ENDLESS = 2**32 - 1
"""Stands for an infinite limit, and for any limit that is as high as this."""

ROWS_AT_FIRST = 8


@final
class Track:
    """The newest samples of one limiter, ``size`` of them at most."""

    __slots__ = (
        "_gaps",
        "_offset",
        "_rows",
        "_run",
        "_runs",
        "_size",
        "_sum",
        "limit",
        "running",
        "tick",
        "waiting",
    )

    def __init__(self, size: int) -> None:
        self.tick: int = -1
        """The tick of the newest sample; ``limit``, ``running``, ``waiting`` are the others."""
        self.limit: float = -1
        self.running: int = -1
        self.waiting: int = -1
        self._size = size
        # A ring of rows, which grows up to `size`: each run has a sample at least.
        self._rows, self._runs = bytearray(), 0
        self._run, self._sum = 0, 0  # the newest run: its first number, and the sum before
        self._offset = 0  # a sample's tick less its number
        self._gaps: list[tuple[int, int]] = []
        """Samples that have ticks missing before them: their number, and how many."""

    def __len__(self) -> int:
        """Return how many samples there are."""
        return min(self._size, self.tick - self._offset + 1) if self._runs else 0

    def add(self, tick: int, limit: float, running: int, waiting: int) -> None:
        """Add the sample of ``tick``, which is later than the others."""
        if tick != self.tick + 1:
            self._skip(tick)
        if running != self.running or waiting != self.waiting or limit != self.limit:
            self._turn(tick - self._offset, limit, running, waiting)
        self.tick = tick

    def average(self, samples: int) -> float | None:
        """Return the average of *running* over the last samples; ``None`` if there are fewer."""
        if not 0 < samples <= len(self):
            return None
        end = self.tick - self._offset + 1
        return (self._sum_before(end) - self._sum_before(end - samples)) / samples

    def missing(self, samples: int) -> int:
        """Return how many ticks are missing between the last samples."""
        first = self.tick - self._offset + 1 - samples
        return sum(ticks for number, ticks in self._gaps if number > first)

    def newest_first(self) -> Iterator[tuple[int, Load]]:
        """Yield the samples, the newest first, each with its tick."""
        tick, gaps = self.tick, dict(self._gaps)
        end = tick - self._offset + 1
        oldest = end - len(self)
        for run in reversed(range(max(0, self._runs - self._size), self._runs)):
            first, load = self._row(run)[0], self._load(run)
            for number in reversed(range(max(first, oldest), end)):
                yield tick, load
                tick -= 1 + gaps.get(number, 0)
            end = first
            if end <= oldest:
                return

    # ---- inside ----

    def _skip(self, tick: int) -> None:
        if not self._runs:
            self._offset = tick
            return
        missing = tick - self.tick - 1
        number = tick - self._offset - missing
        kept = [gap for gap in self._gaps if gap[0] > number - self._size]
        self._gaps = [*kept, (number, missing)]
        self._offset += missing

    def _turn(self, number: int, limit: float, running: int, waiting: int) -> None:
        """Begin a run."""
        self._sum = self._sum_before(number)
        self._run, self.limit, self.running, self.waiting = number, limit, running, waiting
        at = self._runs % self._size * ROW.size
        if at == len(self._rows):
            self._grow()
        ROW.pack_into(self._rows, at, number, self._sum, int(min(limit, ENDLESS)), waiting)
        self._runs += 1

    def _grow(self) -> None:
        rows = min(self._size, max(ROWS_AT_FIRST, 2 * self._runs))
        self._rows += bytes(rows * ROW.size - len(self._rows))

    def _row(self, run: int) -> tuple[int, int, int, int]:
        return ROW.unpack_from(self._rows, run % self._size * ROW.size)

    def _load(self, run: int) -> Load:
        _, _, limit, waiting = self._row(run)
        return Load(math.inf if limit == ENDLESS else limit, self._running(run), waiting)

    def _running(self, run: int) -> int:
        if run == self._runs - 1:
            return self.running
        number, total, *_ = self._row(run)
        next_number, next_total, *_ = self._row(run + 1)
        return (next_total - total) // (next_number - number)

    def _sum_before(self, number: int) -> int:
        """Return the sum of *running* of the samples before ``number``."""
        if number >= self._run:
            return self._sum + (number - self._run) * self.running
        runs = range(max(0, self._runs - self._size), self._runs)
        run = runs[bisect_right(runs, number, key=lambda run: self._row(run)[0]) - 1]
        first, total, *_ = self._row(run)
        return total + (number - first) * self._running(run)
