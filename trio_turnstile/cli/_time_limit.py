"""How long a command may take: a fixed time, or a multiple of the median run time."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Protocol, final
from weakref import WeakKeyDictionary

import trio

from ._durations import Multiple

_AT_LEAST = 3
"""How many operations must have completed before their median means anything."""

_WINDOW = 1000
"""The median is taken over at most this many operations, the last ones, to bound memory."""

_SAME = 0.01
"""A smaller relative change of the median is ignored: moving every deadline takes time."""


class TimeLimit(Protocol):
    """How long a command may take."""

    def scope(self) -> trio.CancelScope:
        """Return a scope whose time starts now, and that ends when it is up."""
        ...

    def note_completed(self, seconds: float) -> None:
        """Take note that an operation has completed in this many seconds."""


@final
class FixedTime:
    """A number of seconds.

    Args:
      seconds: the number; ``None`` for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = math.inf if seconds is None else seconds

    def scope(self) -> trio.CancelScope:
        """Return a scope that ends after these seconds."""
        return trio.CancelScope(deadline=trio.current_time() + self._seconds)

    def note_completed(self, seconds: float) -> None:
        """Do nothing."""


@final
class MultipleOfMedian:
    """A multiple of the median run time of the operations that have completed.

    There is no limit until three have completed. Then the limit also applies to commands that
    are already running, and follows the median.

    Args:
      multiple: the multiple.
    """

    def __init__(self, multiple: float) -> None:
        self._multiple = multiple
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []
        self._seconds = math.inf
        self._running = WeakKeyDictionary[trio.CancelScope, float]()

    def scope(self) -> trio.CancelScope:
        """Return a scope that ends when the time is up; its deadline follows the median."""
        now = trio.current_time()
        scope = trio.CancelScope(deadline=now + self._seconds)
        self._running[scope] = now
        return scope

    def note_completed(self, seconds: float) -> None:
        """Count an operation."""
        self._latest.append(seconds)
        insort(self._sorted, seconds)
        if len(self._latest) > _WINDOW:
            del self._sorted[bisect_left(self._sorted, self._latest.popleft())]
        if len(self._latest) >= _AT_LEAST:
            self._set(self._multiple * self._sorted[len(self._sorted) // 2])

    def _set(self, seconds: float) -> None:
        if abs(seconds - self._seconds) <= _SAME * self._seconds < math.inf:
            return
        self._seconds = seconds
        for scope, began in self._running.items():
            scope.deadline = began + seconds


def make_time_limit(seconds: float | None) -> TimeLimit:
    """Return the limit for ``--timeout``: seconds, a multiple, or none."""
    return MultipleOfMedian(seconds) if isinstance(seconds, Multiple) else FixedTime(seconds)
