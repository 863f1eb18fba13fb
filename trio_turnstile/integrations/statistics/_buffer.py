"""`Buffer`: entries that are waiting to be written; its length is bounded. Pure.

While the database is unavailable, samples are dropped first, and the oldest of these first,
because a gap in a chart does the least harm. Decisions and errors are dropped only when no
sample is left.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Generic, TypeVar, final

import attrs

T = TypeVar("T")


@final
class Lane(Generic[T]):
    """Entries in order. They leave only at the old end, so each can be known by its number."""

    def __init__(self) -> None:
        self._entries: deque[T] = deque()
        self._left = 0
        self.dropped: int = 0
        """How many entries were dropped before they were written."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: T) -> None:
        """Add an entry at the new end."""
        self._entries.append(entry)

    def drop(self) -> None:
        """Drop the oldest entry."""
        self._entries.popleft()
        self._left += 1
        self.dropped += 1

    def first(self, most: int) -> Share[T]:
        """Return the oldest entries; they stay here until `settle` is called."""
        return Share(tuple(islice(self._entries, most)), self._left)

    def settle(self, share: Share[T]) -> None:
        """Remove entries that were written. Those dropped meanwhile count as written."""
        end = share.start + len(share.entries)
        self.dropped -= min(self._left, end) - share.start
        while self._left < end:
            self._entries.popleft()
            self._left += 1


@final
@attrs.frozen
class Share(Generic[T]):
    """Some of the entries of a lane."""

    entries: tuple[T, ...]
    start: int
    """The number of the first entry."""


S = TypeVar("S")
E = TypeVar("E")


@final
class Buffer(Generic[S, E]):
    """Samples and events that are waiting to be written.

    Args:
      most: how many samples and events there may be in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.samples = Lane[S]()
        self.events = Lane[E]()

    def __len__(self) -> int:
        return len(self.samples) + len(self.events)

    def add_sample(self, sample: S) -> None:
        """Add a sample."""
        self.samples.add(sample)
        self._make_room()

    def add_event(self, event: E) -> None:
        """Add a decision or an error."""
        self.events.add(event)
        self._make_room()

    def _make_room(self) -> None:
        if len(self) > self._most:
            (self.samples or self.events).drop()
