"""`RateLimiter`: a rate limit, so many per second with bursts.

The generic cell rate algorithm (GCRA, ITU-T I.371), a token bucket in one number: the time
at which the next would be due if all came evenly spaced. While that time is no more than
``burst - 1`` intervals in the future, one may pass, and the time moves on by one interval.
"""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_number, check_whole


@final
class RateLimiter:
    """A rate limit: lets so many tasks pass per second, first come, first served.

    In any period of time at most ``per_second`` times its seconds plus ``burst`` pass.

    Args:
      per_second: how many may pass each second; it may be changed at any time.
      burst: how many may pass at once, after a time in which fewer did.

    Raises:
      TypeError, ValueError: if the rate is no number over 0, or the burst is under 1.
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
        """How many may pass each second. Assign to change it, also for tasks that wait."""
        return self._per_second

    @per_second.setter
    def per_second(self, per_second: float) -> None:
        check_number("per_second", per_second, positive=True)
        if trio.lowlevel.in_trio_run():
            ahead = max(0.0, self._due - trio.current_time())
            # Keep the number of intervals ahead: each gets the new length.
            self._due += ahead * (self._per_second / per_second - 1)
        self._per_second = per_second
        self._retimed.set()

    def acquire_nowait(self) -> None:
        """Pass, without blocking.

        Raises:
          trio.WouldBlock: if it is too early, or other tasks are waiting.
        """
        now = trio.current_time()
        if self._turn.locked() or self._wait(now) > 0:
            raise trio.WouldBlock
        self._pass(now)

    @enable_ki_protection
    async def acquire(self) -> None:
        """Pass; wait in turn until the rate allows it.

        If cancelled while it waits, the task uses up nothing of the rate.
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
