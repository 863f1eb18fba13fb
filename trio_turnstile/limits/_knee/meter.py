"""What can be seen of a service from its calls: how many end, how slowly, how old they grow."""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import fmean
from typing import final

import attrs

from trio_turnstile.limits._protocol import Outcome, Sample

from .latency import Spread

AGES = 2.0
"""A stretch is long enough when it lasts this many mean ages of the calls in flight.

In a steady state the calls in flight are, on average, half done. Twice their age is hence
the time that one of them takes from start to end, however long the tail of the service
times, and no guess about their distribution is needed.
"""
BUSY = 0.8
"""A limit is in use when this share of it is in flight."""
CLUSTERED = 1.5
"""Calls in flight together are alike: so many times the variance of as many strangers."""


@final
@attrs.frozen
class Reading:
    """What was measured over a stretch of time at one limit."""

    calls: int
    """Calls that were seen to succeed."""
    stood_for: int
    """Calls that succeeded, the unseen included."""
    seconds: float
    """Length of the stretch, in seconds."""
    in_flight: float
    """Mean number of calls in flight."""
    latency: float
    """Mean latency, in seconds."""
    typical: float
    """Typical latency, in seconds: a few calls of another kind do not move it (`_spread`)."""
    age: float
    """Mean age of the calls in flight, in seconds."""
    placed: int = 0
    """Calls that ended with others in flight, so that their place among those is known."""
    overtaken: float = 0.0
    """The share of the others in flight that those had overtaken, in the mean."""

    @property
    def rate(self) -> float:
        """Calls that succeeded per second, counted: right even while the service is changing."""
        return self.stood_for / self.seconds

    def error(self, scatter: float) -> float:
        """Return the relative standard error of a latency, from what it would be of one call."""
        return scatter * math.sqrt(CLUSTERED / self.calls)

    def misfit(self, limit: int) -> str | None:
        """Return why the reading says nothing of the limit; None if it does."""
        if self.in_flight < min(BUSY * limit, limit - 0.5):
            return "not in use"
        return "not in force" if self.in_flight > max(limit / BUSY, limit + 0.5) else None

    def counted(self, former: Reading) -> Reading:
        """Return the same with the latency that Little's law has of what has ended.

        Calls that end just after a change of the service began before it, and their latencies
        tell of the past: after a stall of the quick ones alone. How many end is right at once.

        Args:
          former: a reading from before, for how the typical latency lies to the mean.
        """
        latency = self.in_flight / self.rate
        return attrs.evolve(
            self, latency=latency, typical=latency * former.typical / former.latency
        )


@final
class Meter:
    """Takes readings, after letting the service settle when the limit has changed.

    The number of calls in flight, and when those began that were seen to start, are all that is
    kept of them: enough to know their mean age at any time, and which of them end out of turn.
    """

    def __init__(self) -> None:
        self.spread = Spread()
        self._in_flight = 0
        self._began = list[float]()  # of the calls that were seen to start, the oldest first
        self._starts = self._now = self._area = self._ages = 0.0
        self.changed = -math.inf
        self.open(0.0)

    def settle(self, now: float, turnover: int) -> None:
        """Wait, after a change of the limit, until the calls from before it are gone.

        Args:
          now: the time, in seconds.
          turnover: how many calls begun since must have succeeded.
        """
        self.open(now)
        self.changed = now
        self.settling = True
        self._turnover = turnover

    def open(self, now: float) -> None:
        """Begin a reading."""
        self.on_tick(now)
        self.settling = False
        self.opened = now
        self._latencies = list[float]()
        self._stood_for = self._turnover = self._placed = 0
        self._area = self._ages = self._overtaken = 0.0

    @property
    def calls(self) -> int:
        """How many calls were seen to succeed since the reading was opened."""
        return len(self._latencies)

    def on_start(self, now: float, in_flight: int) -> None:
        """Take note that a call starts."""
        self.on_tick(now)
        if not self._in_flight and not self.calls:  # until now there was nothing to read
            self.opened = now
        self._in_flight = in_flight
        self._began.append(now)
        self._starts += now

    def on_finish(self, sample: Sample) -> None:
        """Take note that a call has ended, however it did."""
        self.on_tick(sample.end)
        self._in_flight = max(0, self._in_flight - 1)
        older = min(bisect_left(self._began, sample.start), len(self._began) - 1)
        if sample.outcome is Outcome.SUCCESS:
            self._count(max(0.0, sample.end - sample.start), sample)
            self._place(older)
        del self._began[older : older + 1]
        self._starts = self._starts - sample.start if self._began else 0.0

    def _count(self, latency: float, sample: Sample) -> None:
        self._latencies.append(latency)
        self._stood_for += sample.weight
        if self.settling and sample.start >= self.changed:
            self._turnover -= sample.weight

    def _place(self, older: int) -> None:
        began, others = self._began, len(self._began) - 1
        if others < 1 or (older < others and began[older + 1] == began[older]):
            return  # no others, or some begun together with it: which was first?
        self._placed += 1
        self._overtaken += older / others

    def on_tick(self, now: float) -> None:
        """Take note that time passes."""
        span = now - self._now
        if span > 0:
            self._now = now
            self._area += span * self._in_flight
            self._ages += span * self._in_flight * self.age(now - span / 2)

    def age(self, now: float) -> float:
        """Return the mean age of the calls in flight, in seconds."""
        return max(0.0, now - self._starts / len(self._began)) if self._began else 0.0

    def long_enough(self, now: float) -> bool:
        """Tell whether the stretch has lasted long enough for slow calls to have their part."""
        return self._turnover <= 0 and now - self.opened >= AGES * self.age(now)

    def read(self, now: float) -> Reading:
        """Return what was measured since the reading was opened."""
        self.on_tick(now)
        seconds, calls = max(1e-9, now - self.opened), max(1, self.calls)
        mean, typical = 0.0, seconds
        if latencies := self._latencies:
            mean, typical = fmean(latencies), self.spread.learn(latencies)
        return Reading(
            calls=calls,
            stood_for=max(1, self._stood_for),
            seconds=seconds,
            in_flight=max(1e-9, self._area / seconds),
            latency=max(1e-9, mean),
            typical=max(1e-9, typical),
            age=self._ages / self._area if self._area else 0.0,
            placed=self._placed,
            overtaken=self._overtaken / max(1, self._placed),
        )
