"""Slots: numbers for the running operations, so that each can have its own GPU, port or folder.

An operation holds its slot from before its first attempt until its clean-up has ended. If it
took the slot later, while it holds a token, operations with a slot could wait for that token.
The price: with slots, an operation that cleans up or backs off delays the next one.
"""

from __future__ import annotations

import heapq
from typing import final

from trio.lowlevel import ParkingLot, checkpoint

from trio_turnstile import Limiter


@final
class Slots:
    """The numbers from 1 to the limit; an operation gets the lowest free one.

    Args:
      limiter: bounds how many numbers there are.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._free: list[int] = []
        self._made = 0
        self._waiting = ParkingLot()

    async def wait_free(self) -> None:
        """Wait until fewer numbers are taken than the limit allows."""
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
        """Give a number back, so that another operation can take it."""
        heapq.heappush(self._free, number)
        self._waiting.unpark_all()

    def look_again(self, event: object) -> None:
        """Take note that the limit may have changed."""
        self._waiting.unpark_all()
