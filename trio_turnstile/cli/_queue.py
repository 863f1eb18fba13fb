"""`Queue`: bounds how many inputs are on a cluster at a time, as tasks of arrays."""

from __future__ import annotations

import math
from typing import final

import trio

from trio_turnstile import Limiter

QUEUE = "queue"
"""The name of its limiter, for those who steer the run."""

_LOOK = 0.2
"""Seconds between two checks of how many tasks are waiting."""


@final
class Queue:
    """Lets in inputs for one more array while less than an array of tasks waits on the cluster.

    So there is always an array to take the next task from, and few calls submit many tasks.

    Args:
      size: how many tasks an array has.
      running: bounds how many tasks run at a time.
    """

    def __init__(self, size: int, running: Limiter) -> None:
        self.limiter = Limiter(QUEUE, math.inf)
        """The operations whose tasks wait or run hold its tokens."""
        self._size = size
        self._running = running
        self._left = 0

    async def wait_for_room(self) -> None:
        """Wait until another input may come."""
        await trio.lowlevel.checkpoint()
        while not self._left:
            await trio.sleep(_LOOK)  # meanwhile the inputs let in before take their tokens
            if self._waiting < self._size:
                self._left = self._size
        self._left -= 1

    @property
    def _waiting(self) -> float:
        return self.limiter.borrowed_tokens - self._running.total_tokens
