"""Adaptive request concurrency as in Vector: one decision per round trip."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from ._moving import MovingLimit
from ._protocol import LimitPolicy, Outcome, Sample


@final
class VectorLimit(LimitPolicy):
    """Grows by one while latency is no worse than its mean, shrinks when it clearly is.

    Once per mean latency, it compares the mean latency of the successful calls since the
    last decision with an exponential mean m and variance v of those before. If the limit
    was reached, no call was overloaded, and mean <= m: ``limit + 1``. On overload, or if
    mean >= m + 2.5 sqrt v: ``floor(0.9 * limit)``. Then, with d = mean - m and a = 0.4,
    v becomes ``(1 - a) * (v + a * d * d)`` and m becomes ``m + a * d``.

    Source: the ARC controller of vectordotdev/vector, with its defaults.

    Args:
      initial: the limit to start with, in calls.
      minimum: the limit never goes below it.
      maximum: the limit never goes above it.
      decrease_ratio: factor of a decrease.
      ewma_alpha: weight of the newest mean.
      deviation_scale: standard deviations above the mean that are clearly worse.
    """

    def __init__(
        self,
        initial: float = 1,
        *,
        minimum: float = 1,
        maximum: float = 200,
        decrease_ratio: float = 0.9,
        ewma_alpha: float = 0.4,
        deviation_scale: float = 2.5,
    ) -> None:
        self._limit = MovingLimit(initial, minimum, maximum)
        self._ratio = decrease_ratio
        self._alpha = ewma_alpha
        self._scale = deviation_scale
        self._mean: float | None = None
        self._variance = 0.0
        self._due = 0.0
        self._forget()

    def _forget(self) -> None:
        self._total, self._count = 0.0, 0
        self._reached = self._pushed_back = False

    @property
    def limit(self) -> float:
        """The limit now proposed, in calls."""
        return self._limit.value

    def on_start(self, now: float, in_flight: int) -> None:
        """Record whether the limit is reached."""
        if in_flight >= int(self._limit.value):
            self._reached = True

    def on_finish(self, sample: Sample) -> None:
        """Learn from a call, unless it says nothing about the service."""
        if sample.outcome is not Outcome.IGNORED:
            self._learn(sample)

    def why(self) -> Mapping[str, object]:
        """Return the reason and the figures of the last move."""
        return self._limit.why

    def _learn(self, sample: Sample) -> None:
        if sample.outcome is Outcome.OVERLOADED:
            self._pushed_back = True
        else:
            self._total += sample.latency
            self._count += 1
        if self._mean is None:
            self._begin(sample)
        elif sample.end >= self._due:
            self._decide(self._mean, sample.end)

    def _begin(self, sample: Sample) -> None:
        if self._count:
            self._mean = self._total / self._count
            self._due = sample.end + self._mean
            self._forget()

    def _decide(self, past: float, now: float) -> None:
        mean = self._total / self._count if self._count else None
        slow = past + self._scale * math.sqrt(self._variance)
        if self._reached and not self._pushed_back and mean is not None and mean <= past:
            self._limit.move(self._limit.value + 1, "no slower", mean=mean, past=past)
        elif self._pushed_back or (mean is not None and mean >= slow and mean > past):
            reason = "overloaded" if self._pushed_back else "slower"
            self._limit.move(
                math.floor(self._limit.value * self._ratio), reason, mean=mean, past=past
            )
        if mean is not None:
            past = self._update(past, mean)
        self._due = now + past
        self._forget()

    def _update(self, past: float, mean: float) -> float:
        step = mean - past
        self._variance = (1 - self._alpha) * (self._variance + self._alpha * step * step)
        self._mean = past + self._alpha * step
        return self._mean
