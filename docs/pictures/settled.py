"""Looks at a run on virtual time whenever everything that can happen has happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")


class Settled(trio.abc.Instrument, Generic[T]):
    """Takes a sample at each moment of virtual time, after all tasks have had their turn.

    Args:
      look: returns the sample; ``None`` stands for none.
    """

    def __init__(self, look: Callable[[], T | None]) -> None:
        self._look = look
        self._samples: dict[float, T] = {}

    def before_io_wait(self, timeout: float) -> None:
        """Take a sample; a later one of the same moment takes its place."""
        sample = self._look()
        if sample is not None:
            self._samples[round(trio.current_time(), 6)] = sample

    def steps(self) -> list[tuple[float, T]]:
        """Return the samples that differ from the one before, each with its time."""
        steps: list[tuple[float, T]] = []
        for time, sample in sorted(self._samples.items(), key=lambda pair: pair[0]):
            if not steps or steps[-1][1] != sample:
                steps.append((time, sample))
        return steps


def virtual_clock() -> MockClock:
    """Return a clock that starts at 0 and jumps when no task has anything to do."""
    return MockClock(autojump_threshold=0)
