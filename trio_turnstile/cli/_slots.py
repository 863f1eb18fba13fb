"""Numbers for the operations that run: one GPU, port or folder for each.

An operation has its slot from before its first attempt until its clean-up ended: if it waited
for one with a token in hand, those with a slot could wait for that token. So operations that clean
up, or back off, hold up the next one, which they do not if there are no slots.
"""

from __future__ import annotations

import heapq
from typing import final

from trio.lowlevel import ParkingLot, checkpoint

from trio_turnstile import Limiter


@final
class Slots:
    """The numbers from 1 to the limit; the lowest free one is given.

    Args:
      limiter: bounds how many there are.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._free: list[int] = []
        self._made = 0
        self._waiting = ParkingLot()

    async def wait_free(self) -> None:
        """Wait until fewer are taken than the limit allows."""
        await checkpoint()
        while self._made - len(self._free) >= self._limiter.total_tokens:
            await self._waiting.park()

    def take(self) -> int:
        """Take the lowest free number."""
        if self._free:
            return heapq.heappop(self._free)
        self._made += 1
        return self._made

    def give_back(self, number: int) -> None:
        """Let another operation have the number."""
        heapq.heappush(self._free, number)
        self._waiting.unpark_all()

    def look_again(self, event: object) -> None:
        """Take note that the limit may have changed."""
        self._waiting.unpark_all()
