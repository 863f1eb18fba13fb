"""`RateLimiter`: so many per second, and no more than a burst at once.

The generic cell rate algorithm (ITU-T I.371), on trio's clock: one number, the time
at which the next would be due if all came evenly, says who may pass. Where it lies
no more than ``burst - 1`` intervals ahead, one may pass, and it moves on by one.
"""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_number, check_whole


@final
class RateLimiter:
    """Lets so many pass per second, in the order of their coming.

    Over any stretch of time no more pass than ``per_second`` times its seconds, and
    ``burst`` besides.

    Args:
      per_second: how many may pass each second; it may be changed at any time.
      burst: how many may pass at once, after a time in which fewer did.

    Raises:
      TypeError, ValueError: for a rate that is no number over 0, or a burst under 1.
    """

    def __init__(self, per_second: float, burst: int = 1) -> None:
        check_number("per_second", per_second, positive=True)
        check_whole("burst", burst, 1)
        self._per_second = per_second
        self._burst = burst
        self._due = float("-inf")
        self._turn = trio.StrictFIFOLock()
        self._retimed = trio.Event()

    def __repr__(self) -> str:
        waiting = self._turn.statistics().tasks_waiting + self._turn.locked()
        return (
            f"<trio_turnstile.RateLimiter {self._per_second}/s, burst {self._burst}, "
            f"{waiting} waiting>"
        )

    @property
    def burst(self) -> int:
        """How many may pass at once."""
        return self._burst

    @property
    def per_second(self) -> float:
        """How many may pass each second. Assign to it: those who wait are timed anew."""
        return self._per_second

    @per_second.setter
    def per_second(self, per_second: float) -> None:
        check_number("per_second", per_second, positive=True)
        if trio.lowlevel.in_trio_run():
            ahead = max(0.0, self._due - trio.current_time())
            # As many intervals ahead as before, each of the new length.
            self._due += ahead * (self._per_second / per_second - 1)
        self._per_second = per_second
        self._retimed.set()

    def acquire_nowait(self) -> None:
        """Pass, without blocking.

        Raises:
          trio.WouldBlock: if it is not time yet, or others are waiting.
        """
        now = trio.current_time()
        if self._turn.locked() or self._wait(now) > 0:
            raise trio.WouldBlock
        self._pass(now)

    @enable_ki_protection
    async def acquire(self) -> None:
        """Pass, waiting until it is time.

        If cancelled while it waits, nothing was used up.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.acquire_nowait()
        except trio.WouldBlock:
            await self._wait_in_turn()
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def _wait_in_turn(self) -> None:
        async with self._turn:
            while True:
                now = trio.current_time()
                wait = self._wait(now)
                if wait <= 0:
                    return self._pass(now)
                self._retimed = trio.Event()
                with trio.move_on_after(wait):
                    await self._retimed.wait()

    def _wait(self, now: float) -> float:
        """Return the seconds until one may pass."""
        return self._due - (self._burst - 1) / self._per_second - now

    def _pass(self, now: float) -> None:
        self._due = max(self._due, now) + 1 / self._per_second
