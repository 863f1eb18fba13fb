"""`RateLimiter`: a rate limit, so many per second with bursts.

A token bucket (also known as the generic cell rate algorithm, ITU-T I.371). The *debt* is how
many have passed beyond what the rate has paid off since; one may pass while the debt is no
more than ``burst - 1``, and the debt grows by one. It is counted in passes and not in seconds,
so that a burst at one instant is exact, and so that a change of the rate changes nothing else.
"""

from __future__ import annotations

import math
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_number, check_whole

from .trio_runs import LastRun


@final
class RateLimiter:
    """A rate limit: lets so many tasks pass per second, first come, first served.

    In any period of time at most ``per_second`` times its seconds plus ``burst`` pass. It may be
    used in one ``trio.run`` after another; each starts with a full burst.

    Args:
      per_second: how many may pass each second; it may be changed at any time. `math.inf`
        for no limit.
      burst: how many may pass at once, after a time in which fewer did.

    Raises:
      TypeError, ValueError: if the rate is no number over 0, or the burst is under 1.
    """

    __slots__ = ("_burst", "_debt", "_paid_at", "_per_second", "_retimed", "_run", "_turn")

    def __init__(self, per_second: float, burst: int = 1) -> None:
        check_number("per_second", per_second, positive=True)
        check_whole("burst", burst, 1)
        self._per_second = per_second
        self._burst = burst
        self._debt = 0.0
        self._paid_at = -math.inf
        self._turn = trio.StrictFIFOLock()
        self._retimed = trio.Event()
        self._run = LastRun()

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
            self._pay_off(trio.current_time())
        self._per_second = per_second
        self._retimed.set()

    def acquire_nowait(self) -> None:
        """Pass, without blocking.

        Raises:
          trio.WouldBlock: if it is too early, or other tasks are waiting.
          RuntimeError: if a trio run that goes on in another thread has used it.
        """
        if self._wait() > 0 or self._turn.locked():
            raise trio.WouldBlock
        self._debt += 1

    @enable_ki_protection
    async def acquire(self) -> None:
        """Pass; wait in turn until the rate allows it.

        If cancelled while it waits, the task uses up nothing of the rate.

        Raises:
          RuntimeError: if a trio run that goes on in another thread has used it.
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
            while (wait := self._wait()) > 0:
                self._retimed = trio.Event()
                with trio.move_on_after(wait):
                    await self._retimed.wait()
            self._debt += 1

    def _wait(self) -> float:
        """Return the seconds until one may pass."""
        now = trio.current_time()
        self._pay_off(now)
        over = self._debt - (self._burst - 1)
        # The clock tells no time shorter than its last digit, so a wait may end that much early.
        tick = math.ulp(now)
        if over <= 1e-9 or over <= min(0.5, tick * self._per_second):
            return 0.0
        return max(over / self._per_second, 2 * tick)

    def _pay_off(self, now: float) -> None:
        if self._run.has_changed(self) or self._per_second == math.inf:
            self._debt = 0.0
        else:
            self._debt = max(0.0, self._debt - (now - self._paid_at) * self._per_second)
        self._paid_at = now
