"""`Sampler`: reports the calls that go through a limiter to its adaptive policy. Sans-I/O.

A policy can learn only from calls that the service answered. A call that was cancelled, or
that failed for a reason unrelated to load, is reported as ignored: a fast error must not
look like a fast success.
"""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Protocol, final

import trio

from trio_turnstile._errors import On, Overloaded, matches
from trio_turnstile.limits import LimitPolicy, Outcome, Sample

OVERLOAD: On = (Overloaded, TimeoutError, trio.TooSlowError)
"""The errors that mean overload by default."""


def outcome_of(error: BaseException, overload: On) -> Outcome:
    """Return what a policy learns from a call that ended with ``error``."""
    if isinstance(error, Exception) and matches(error, overload):
        return Outcome.OVERLOADED
    return Outcome.IGNORED


class AnySampler(Protocol):
    """Reports calls to one policy, or to several."""

    @property
    def calls(self) -> Container[object]:
        """The borrowers whose calls are sampled."""
        ...

    def wants(self) -> bool:
        """Return whether to sample the call that begins now."""
        ...

    def start(self, borrower: object, now: float, in_flight: int) -> None:
        """Report that a call starts."""
        ...

    def restart(self, borrower: object, now: float) -> None:
        """Count the time of a call from now on."""
        ...

    def finish(self, borrower: object, now: float, outcome: Outcome) -> None:
        """Report that a call ended."""
        ...


PLENTY, WINDOW, SHORTEST = 100, 0.1, 0.01
"""Aim at `PLENTY` samples in `WINDOW` seconds; measure the rate over `SHORTEST` at least."""


@final
class Sampler:
    """The sampled calls in flight.

    Below about 1,000 calls per second, every call is sampled. Above that, only every n-th call is:
    a policy learns just as well from those, and a sample costs more than taking a token. (With
    every call sampled, a stage with a `KneeLimit` took 2.2 times as long as without one.)
    """

    def __init__(self, policy: LimitPolicy) -> None:
        self._policy = policy
        self.calls: dict[object, tuple[float, int, int]] = {}
        """The sampled calls by borrower: start, in flight, weight."""
        self._every, self._passed_over = 1, 0
        self._since, self._taken = -math.inf, 0

    def wants(self) -> bool:
        """Return whether to sample the call that begins now, and count it."""
        if self._passed_over + 1 < self._every:
            self._passed_over += 1
            return False
        self._passed_over = 0
        return True

    def start(self, borrower: object, now: float, in_flight: int) -> None:
        """Report to the policy that a call starts: the borrower has its token."""
        self.calls[borrower] = (now, in_flight, self._every)
        self._policy.on_start(now, in_flight)
        self._taken += 1
        if self._taken >= PLENTY or now - self._since >= WINDOW:
            self._adapt(now)

    def restart(self, borrower: object, now: float) -> None:
        """Count the time of a call from now on: its borrower had to wait for something else."""
        _, in_flight, weight = self.calls[borrower]
        self.calls[borrower] = (now, in_flight, weight)

    def finish(self, borrower: object, now: float, outcome: Outcome) -> None:
        """Report to the policy that a call ended: the borrower gives its token back."""
        start, in_flight, weight = self.calls.pop(borrower)
        self._policy.on_finish(Sample(start, now, in_flight, outcome, weight))

    def _adapt(self, now: float) -> None:
        # The rate of all calls since the last time comes from those that were sampled: each
        # stands for `_every` calls. Rounding down samples a little more than `PLENTY`.
        # After a change to another trio run, with another clock, nothing is known.
        passed = now - self._since if now >= self._since else WINDOW
        rate = self._taken * self._every / max(SHORTEST, passed)
        self._every = max(1, int(rate * WINDOW / PLENTY))
        self._since, self._taken = now, 0
