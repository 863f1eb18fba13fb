"""`Sampler`: tells an adaptive policy of the calls that go through a limiter. Pure.

Only calls that the service answered teach anything. One that was cancelled, or that
failed in a way that says nothing of its load, is passed over: a fast error must not
look like a fast success.
"""

from __future__ import annotations

import math
from typing import final

import trio

from trio_turnstile._errors import On, Overloaded, matches
from trio_turnstile.limits import LimitPolicy, Outcome, Sample

OVERLOAD: On = (Overloaded, TimeoutError, trio.TooSlowError)
"""Which errors mean overload, unless the user says otherwise."""


def outcome_of(error: BaseException, overload: On) -> Outcome:
    """Return what a call teaches that ended with ``error``."""
    if isinstance(error, Exception) and matches(error, overload):
        return Outcome.OVERLOADED
    return Outcome.IGNORED


PLENTY, WINDOW, SHORTEST = 100, 0.1, 0.01
"""So many samples in so many seconds are enough; the least time to judge by."""


@final
class Sampler:
    """The calls in flight, as far as a policy has to know.

    Up to some 1,000 calls a second it is told of all. Of more it is told of every second or
    tenth, and so on, which it can learn from as well: a limit has to be fast where calls are
    so short, and a sample costs more than taking a token (without this, a stage with a
    `KneeLimit` took 2.2 times as long as one with none).
    """

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self.calls: dict[object, tuple[float, int, int]] = {}
        """The calls that the policy was told of, by borrower: start, in flight, weight."""
        self._every, self._passed_over = 1, 0
        self._since, self._taken = -math.inf, 0

    def wants(self) -> bool:
        """Tell whether the policy is to be told of the call that begins now."""
        if self._passed_over + 1 < self._every:
            self._passed_over += 1
            return False
        self._passed_over = 0
        return True

    def start(self, borrower: object, now: float, in_flight: int) -> None:
        """Take note that the borrower has its token."""
        self.calls[borrower] = (now, in_flight, self._every)
        self._policy.on_start(now, in_flight)
        self._taken += 1
        if self._taken >= PLENTY or now - self._since >= WINDOW:
            self._adapt(now)

    def finish(self, borrower: object, now: float, outcome: Outcome) -> None:
        """Take note that the borrower gives its token back."""
        start, in_flight, weight = self.calls.pop(borrower)
        self._policy.on_finish(Sample(start, now, in_flight, outcome, weight))

    def _adapt(self, now: float) -> None:
        rate = self._taken * self._every / max(SHORTEST, now - self._since)
        self._every = max(1, int(rate * WINDOW / PLENTY))
        self._since, self._taken = now, 0
