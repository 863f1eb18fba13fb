"""The order of items that run at the same time: one order for all, or one for each key."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import final

import trio


@final
class Turns:
    """Lets items pass in the order of their numbers: 1, 2, 3, ...

    Every number has to be marked as finished once, however its item ended. An item may
    wait for its turn as long as it takes; meanwhile later items are worked on.
    """

    def __init__(self) -> None:
        self._next = 1
        self._done: set[int] = set()
        self._waiting: dict[int, trio.Event] = {}

    async def wait(self, number: int) -> None:
        """Wait until all numbers before this one are finished."""
        if number != self._next:
            self._waiting[number] = trio.Event()
            await self._waiting[number].wait()

    def done(self, number: int) -> None:
        """Mark this number as finished, and wake the next if it is due."""
        self._waiting.pop(number, None)
        self._done.add(number)
        while self._next in self._done:
            self._done.remove(self._next)
            self._next += 1
        if self._next in self._waiting:
            self._waiting[self._next].set()


@final
class Lanes:
    """Lets items of one key pass one at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[trio.Event]] = {}

    async def enter(self, key: Hashable) -> None:
        """Wait until the items of the same key that came before have left.

        If cancelled, the item gives up its place in the lane.
        """
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = deque()
            return
        place = trio.Event()
        lane.append(place)
        try:
            await place.wait()
        except BaseException:
            # This item got the lane before it could run again, so it must pass the lane
            # on, or the later items of the key would wait for ever.
            if place.is_set():
                self.leave(key)
            else:
                lane.remove(place)
            raise

    def leave(self, key: Hashable) -> None:
        """Let the next item of the same key in."""
        lane = self._lanes[key]
        if lane:
            lane.popleft().set()
        else:
            del self._lanes[key]
