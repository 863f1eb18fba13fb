"""Order among items that run at a time: all in turn, or in turn for each key."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import final

import trio


@final
class Turns:
    """Lets items pass in the order of their numbers: 1, 2, 3, ...

    Every number has to be done with once, whatever became of its item. An item may
    wait as long as it likes for its turn: later ones work on meanwhile.
    """

    def __init__(self) -> None:
        self._next = 1
        self._done: set[int] = set()
        self._waiting: dict[int, trio.Event] = {}

    async def wait(self, number: int) -> None:
        """Wait until all numbers before this one are done with."""
        if number != self._next:
            self._waiting[number] = trio.Event()
            await self._waiting[number].wait()

    def done(self, number: int) -> None:
        """Be done with this number, in or out of turn."""
        self._waiting.pop(number, None)
        self._done.add(number)
        while self._next in self._done:
            self._done.remove(self._next)
            self._next += 1
        if self._next in self._waiting:
            self._waiting[self._next].set()


@final
class Lanes:
    """Lets items of one key pass one at a time, in the order of their coming."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[trio.Event]] = {}

    async def enter(self, key: Hashable) -> None:
        """Wait until those of the same key that came before have left.

        If cancelled, the place in the lane is given up.
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
            if place.is_set():
                self.leave(key)
            else:
                lane.remove(place)
            raise

    def leave(self, key: Hashable) -> None:
        """Let the next of the same key in."""
        lane = self._lanes[key]
        if lane:
            lane.popleft().set()
        else:
            del self._lanes[key]
