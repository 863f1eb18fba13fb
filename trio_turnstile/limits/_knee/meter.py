"""Measures a service by its calls: how many end, their latency, their age, and their order."""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import fmean
from typing import final

import attrs

from trio_turnstile.limits._protocol import Outcome, Sample

from .latency import LatencyEstimator

READING_AGES = 2.0
"""A reading is long enough if it lasts this many mean ages of the calls in flight (theory).

In a steady state the calls in flight are, on average, half done. So twice their age is the
time that one of them takes from start to end, however long the tail of the service times,
and no assumption about their distribution is needed.
"""
BUSY_SHARE = 0.8
"""A limit is in use if at least this share of it is in flight (taste)."""
ROUNDING_CALLS = 0.5
"""Calls by which a small limit may differ from the mean number in flight, where a share of the
limit would be less than a call (taste)."""
CLUSTER_VARIANCE = 1.5
"""Calls in flight together resemble each other: the variance of the mean of their latencies is
this many times that of independent calls (tuned)."""
SHORTEST_SECONDS = 1e-9
"""The least duration and latency, so that no division is by 0."""
MIN_IN_FLIGHT = 1e-9
"""The least mean number of calls in flight, so that no division is by 0."""


@final
@attrs.frozen
class Reading:
    """What was measured during one stretch of time at one limit."""

    calls: int
    """Calls that succeeded and were sampled."""
    stood_for: int
    """Calls that succeeded, including those that were not sampled."""
    seconds: float
    """Length of the stretch, in seconds."""
    in_flight: float
    """Mean number of calls in flight."""
    latency: float
    """Mean latency, in seconds."""
    location: float
    """Robust location of the latency, in seconds: a few slow calls do not move it (`latency`)."""
    age: float
    """Mean age of the calls in flight, in seconds."""
    placed: int = 0
    """Calls that ended while others were in flight, so that their order is known."""
    overtaken: float = 0.0
    """Mean share of the other calls in flight that each of those had overtaken."""

    @property
    def rate(self) -> float:
        """Calls that succeeded per second: a count, so right even while the service changes."""
        return self.stood_for / self.seconds

    def error(self, cv: float) -> float:
        """Return the relative standard error of a latency, given the one for a single call."""
        return cv * math.sqrt(CLUSTER_VARIANCE / self.calls)

    def misfit(self, limit: int) -> str | None:
        """Return why the reading says nothing about the limit; None if it does."""
        if self.in_flight < min(BUSY_SHARE * limit, limit - ROUNDING_CALLS):
            return "not in use"
        most = max(limit / BUSY_SHARE, limit + ROUNDING_CALLS)
        return "not in force" if self.in_flight > most else None

    def counted(self, former: Reading) -> Reading:
        """Return the same reading with the latency that Little's law gives for its rate.

        Calls that end just after a change of the service began before it, so their latencies
        describe the past; after a stall only the quick calls end. The rate is right at once.

        Args:
          former: an earlier reading, for the ratio of the location to the mean latency.
        """
        latency = self.in_flight / self.rate
        return attrs.evolve(
            self, latency=latency, location=latency * former.location / former.latency
        )


@final
class Meter:
    """Takes readings, and lets the service settle first if the limit has changed.

    Of the calls in flight the meter keeps only their number and the start times of those that
    were sampled: enough to know their mean age at any time, and which of them end out of turn.
    """

    def __init__(self) -> None:
        self.latency = LatencyEstimator()
        self._in_flight = 0
        self._began = list[float]()  # start times of the sampled calls, oldest first
        self._starts = self._now = self._area = self._ages = 0.0
        self.changed = -math.inf
        self.open(0.0)

    def settle(self, now: float, turnover: int) -> None:
        """Wait, after a change of the limit, until the calls from before it are gone.

        Args:
          now: the time, in seconds.
          turnover: how many calls that start after the change must succeed.
        """
        self.open(now)
        self.changed = now
        self.settling = True
        self._turnover = turnover

    def open(self, now: float) -> None:
        """Start a reading."""
        self.on_tick(now)
        self.settling = False
        self.opened = now
        self._latencies = list[float]()
        self._stood_for = self._turnover = self._placed = 0
        self._area = self._ages = self._overtaken = 0.0

    @property
    def calls(self) -> int:
        """Sampled calls that have succeeded in this reading."""
        return len(self._latencies)

    def on_start(self, now: float, in_flight: int) -> None:
        """Record that a call starts."""
        self.on_tick(now)
        if not self._in_flight and not self.calls:  # the reading starts with the first call
            self.opened = now
        self._in_flight = in_flight
        self._began.append(now)
        self._starts += now

    def on_finish(self, sample: Sample) -> None:
        """Record that a call has ended, whatever its outcome."""
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
            return  # no others, or some that began at the same instant: the order is unknown
        self._placed += 1
        self._overtaken += older / others

    def on_tick(self, now: float) -> None:
        """Advance the integrals to ``now``."""
        span = now - self._now
        if span > 0:
            self._now = now
            self._area += span * self._in_flight
            self._ages += span * self._in_flight * self.age(now - span / 2)

    def age(self, now: float) -> float:
        """Return the mean age of the calls in flight, in seconds."""
        return max(0.0, now - self._starts / len(self._began)) if self._began else 0.0

    def long_enough(self, now: float) -> bool:
        """Tell whether the reading has lasted long enough to contain the slow calls too."""
        return self._turnover <= 0 and now - self.opened >= READING_AGES * self.age(now)

    def read(self, now: float) -> Reading:
        """Return what was measured since the reading started."""
        self.on_tick(now)
        seconds, calls = max(SHORTEST_SECONDS, now - self.opened), max(1, self.calls)
        mean, location = 0.0, seconds
        if latencies := self._latencies:
            mean, location = fmean(latencies), self.latency.update(latencies)
        return Reading(
            calls=calls,
            stood_for=max(1, self._stood_for),
            seconds=seconds,
            in_flight=max(MIN_IN_FLIGHT, self._area / seconds),
            latency=max(SHORTEST_SECONDS, mean),
            location=max(SHORTEST_SECONDS, location),
            age=self._ages / self._area if self._area else 0.0,
            placed=self._placed,
            overtaken=self._overtaken / max(1, self._placed),
        )
