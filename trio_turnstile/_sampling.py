"""`Sampler`: tells an adaptive policy of the calls that go through a limiter. Pure.

Only calls that the service answered teach anything. One that was cancelled, or that
failed in a way that says nothing of its load, is passed over: a fast error must not
look like a fast success.
"""

from __future__ import annotations

from typing import final

import trio

from ._errors import Overloaded
from ._verdicts import On, matches
from .limits import LimitPolicy, Outcome, Sample

OVERLOAD: On = (Overloaded, TimeoutError, trio.TooSlowError)
"""Which errors mean overload, unless the user says otherwise."""


def outcome_of(error: BaseException, overload: On) -> Outcome:
    """Return what a call teaches that ended with ``error``."""
    if isinstance(error, Exception) and matches(error, overload):
        return Outcome.OVERLOADED
    return Outcome.IGNORED


@final
class Sampler:
    """The calls in flight, as far as a policy has to know."""

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self._starts: dict[object, tuple[float, int]] = {}

    def start(self, borrower: object, now: float, in_flight: int) -> None:
        """Take note that the borrower has its token."""
        self._starts[borrower] = (now, in_flight)
        self._policy.on_start(now, in_flight)

    def finish(self, borrower: object, now: float, outcome: Outcome) -> None:
        """Take note that the borrower gives its token back."""
        start, in_flight = self._starts.pop(borrower)
        self._policy.on_finish(Sample(start, now, in_flight, outcome))
