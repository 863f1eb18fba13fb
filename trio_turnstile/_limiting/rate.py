"""`RateLimiter`: a rate limit, an amount per second with bursts."""

from __future__ import annotations

import math
import os
from typing import Self, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_number, check_seconds, check_whole

from .kept_debt import KeptDebt
from .meter import Meter, take_in_turn


@final
class RateLimiter:
    """A rate limit: lets a number of tasks pass per second, first come, first served.

    In any period of time, at most ``burst`` tasks pass, plus ``per_second`` for each of its
    seconds. A task may count for more than one, or for less, and is not overtaken by later ones.
    A rate may be used in one ``trio.run`` after another; each starts with a full burst.

    Args:
      per_second: how many may pass each second; it may be changed at any time. `math.inf`
        for no limit.
      burst: how many may pass at once, after a time in which fewer did.
      warm_up: how many seconds the rate takes to grow from nothing to ``per_second`` at the
        start of a run. The burst then begins empty.
      kept_in: a file that keeps what is used up from one run or process to the next, for example
        for a daily quota. Only one process at a time may use it. After a process was killed, up
        to a hundredth of the burst may count as used although it was not.

    Raises:
      TypeError, ValueError: if the rate is not a number over 0, if the burst is less than 1, or
        if the file holds something else.
    """

    __slots__ = ("_meter", "_quota")

    def __init__(
        self,
        per_second: float,
        burst: int = 1,
        *,
        warm_up: float = 0.0,
        kept_in: str | os.PathLike[str] | None = None,
    ) -> None:
        check_number("per_second", per_second, positive=True)
        check_whole("burst", burst, 1)
        check_seconds("warm_up", warm_up)
        kept = None if kept_in is None else KeptDebt(kept_in)
        self._quota: float | None = None
        self._meter = Meter(self, per_second, burst, warm_up, kept)

    @classmethod
    def per(
        cls,
        amount: float,
        *,
        seconds: float,
        burst: int | None = None,
        warm_up: float = 0.0,
        kept_in: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Return a rate of an amount per period, such as ``RateLimiter.per(90_000, seconds=60)``.

        Args:
          amount: how much may pass in the period. It comes back evenly, not all at the end.
          seconds: the length of the period: 60 for a minute, 86,400 for a day.
          burst: how much may pass at once; by default the whole amount. A service that counts in
            fixed windows may then see twice the amount in one window, so give it a smaller burst.
          warm_up: as for the class.
          kept_in: as for the class.

        Raises:
          TypeError, ValueError: as for the class.
        """
        check_number("amount", amount, positive=True)
        check_seconds("seconds", seconds, positive=True)
        whole = max(1, int(amount)) if math.isfinite(amount) else 1
        rate = cls(
            amount / seconds,
            whole if burst is None else burst,
            warm_up=warm_up,
            kept_in=kept_in,
        )
        rate._quota = amount
        return rate

    def __repr__(self) -> str:
        return (
            f"<trio_turnstile.RateLimiter {self.per_second}/s, burst {self.burst}, "
            f"{len(self._meter.line)} waiting>"
        )

    @property
    def burst(self) -> int:
        """How much may pass at once."""
        return int(self._meter.burst)

    @property
    def available(self) -> float:
        """How much may pass at this moment, if nobody waits. For use inside a trio run."""
        return self._meter.available

    @property
    def per_second(self) -> float:
        """How much may pass each second. Assign to change it, including for waiting tasks."""
        return self._meter.per_second

    @per_second.setter
    def per_second(self, per_second: float) -> None:
        check_number("per_second", per_second, positive=True)
        if self._quota is not None:
            self._quota *= per_second / self._meter.per_second
        self._meter.set_pace(per_second, self._meter.share)

    def acquire_nowait(self, amount: float = 1) -> None:
        """Pass, without blocking.

        Args:
          amount: how much this counts for.

        Raises:
          trio.WouldBlock: if it is too early, or other tasks are waiting.
          TypeError, ValueError: if the amount is not a number from 0 to the burst.
          RuntimeError: if another trio run, which goes on in another thread, has used it.
        """
        meter = self._meter
        if amount != 1:
            meter.check("amount", amount)
        if meter.until(amount) > 0 or meter.line:
            raise trio.WouldBlock
        meter.take(amount)

    @enable_ki_protection
    async def acquire(self, amount: float = 1) -> None:
        """Pass; wait in turn until the rate allows it.

        If cancelled while it waits, the task uses up nothing of the rate.

        Args:
          amount: how much this counts for.

        Raises:
          TypeError, ValueError: if the amount is not a number from 0 to the burst. More than the
            burst could never pass.
          RuntimeError: if another trio run, which goes on in another thread, has used it.
        """
        meter = self._meter
        if amount != 1:
            meter.check("amount", amount)
        await trio.lowlevel.checkpoint_if_cancelled()
        wait = meter.until(amount)
        if wait > 0 or meter.line:
            await take_in_turn([(meter, amount)], wait or math.inf)
        else:
            meter.take(amount)
            await trio.lowlevel.cancel_shielded_checkpoint()

    def refund(self, amount: float) -> None:
        """Give back some of what has just passed, because it was not used.

        Waiting tasks pass sooner. The rate never has more to give than its burst. For calls whose
        cost is known only at their end, use `Budget.reserve`, which never gives back too much.

        Raises:
          TypeError, ValueError: if the amount is not a number, or negative.
        """
        check_number("amount", amount)
        self._meter.refund(amount)

    def observe(
        self,
        *,
        remaining: float | None = None,
        reset_after: float | None = None,
        limit: float | None = None,
    ) -> None:
        """Take note of what a service says about its own counts.

        This can only make the rate slower: if the service says that more is left, it is not used.

        Args:
          remaining: how much the service has left.
          reset_after: seconds until the service resets its count. Until then no more than
            ``remaining`` passes. Leave it out for a service that gives back gradually.
          limit: how much the service allows in a period now. If it is less than the amount that
            was given to `per`, the rate slows down in proportion, until a higher limit is observed.

        Raises:
          TypeError, ValueError: if an argument is not a number, or negative.
        """
        if limit is not None:
            check_number("limit", limit, positive=True)
            self._follow(limit)
        if remaining is None:
            remaining = math.inf if reset_after is None else 0.0
        check_number("remaining", remaining)
        until = -math.inf
        if reset_after is not None:
            check_seconds("reset_after", reset_after)
            until = trio.current_time() + reset_after
        self._meter.observe(remaining, until)

    def _follow(self, limit: float) -> None:
        if self._quota is not None:
            self._meter.set_pace(self._meter.per_second, min(1.0, limit / self._quota))


def meter_of(rate: RateLimiter) -> Meter:
    """Return the meter of a rate, so that several rates can be taken at once."""
    return rate._meter


def period_of(rate: RateLimiter) -> float:
    """Return the period that a rate was made with, or the time of a full burst, in seconds."""
    return (rate._quota or rate.burst) / rate.per_second
