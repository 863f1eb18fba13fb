"""`Calls`: tells a breaker how the calls of a limiter end.

The breaker hears of a failure before the token is given back, or the next waiter would get it.
"""

from __future__ import annotations

import math
from typing import final

import trio

from .actuator import LimitActuator
from .breaking import CallBound


@final
class Calls:
    """Tells a `CallBound` how calls end, unless they began before an outage did.

    How such a call ends says little about the service during the outage or after it.

    Args:
      bound: is told how calls end.
      holders: the tokens, and who holds them.
      actuator: applies the bound, in a turnstile.
    """

    def __init__(
        self, bound: CallBound, holders: trio.CapacityLimiter, actuator: LimitActuator
    ) -> None:
        bound.attach(actuator.name, actuator.wake)
        self._bound = bound
        self._holders = holders
        self._actuator = actuator
        self._from_before: set[object] = set()
        """The borrowers that held a token when the outage began, and still hold it."""

    def succeeded(self, borrower: object) -> None:
        """Say that a call succeeded."""
        if self._counts(borrower):
            now = trio.current_time()
            self._bound.succeeded(now)
            self._follow(now)

    def failed(self, borrower: object, error: BaseException) -> None:
        """Say that a call ended with an error."""
        if self._counts(borrower):
            now = trio.current_time()
            was_open = self._bound.tokens == math.inf
            self._bound.failed(error, now)
            if was_open and self._bound.tokens < math.inf:
                self._from_before = set(self._holders.statistics().borrowers) - {borrower}
            self._follow(now)

    def ignored(self, borrower: object) -> None:
        """Say that a call was cancelled."""
        self._from_before.discard(borrower)

    def _counts(self, borrower: object) -> bool:
        if borrower in self._from_before:
            self._from_before.remove(borrower)
            return False
        return self._actuator.dispatcher is not None  # else nothing would ever end an outage

    def _follow(self, now: float) -> None:
        if self._bound.tokens == math.inf:
            self._from_before.clear()
        self._actuator.heed_breaker(now)
