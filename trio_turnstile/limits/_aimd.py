"""Additive increase, multiplicative decrease."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from ._moving import MovingLimit
from ._protocol import LimitPolicy, Outcome, Sample


@final
class AIMDLimit(LimitPolicy):
    """Grows by one for each good call, shrinks by a factor for each bad one.

    A call is bad if it was refused for overload or took longer than ``timeout``; then the
    limit becomes ``floor(backoff * limit)``. After any other call, if at least half the limit
    was in use when the call started, it becomes ``limit + 1``.

    Source: ``AIMDLimit`` of Netflix/concurrency-limits, with its defaults.

    Args:
      initial: the limit to start with, in calls.
      minimum: the limit never goes below it.
      maximum: the limit never goes above it.
      backoff: factor of a decrease.
      timeout: latency in seconds that counts as overload.
    """

    def __init__(
        self,
        initial: float = 20,
        *,
        minimum: float = 20,
        maximum: float = 200,
        backoff: float = 0.9,
        timeout: float = 5.0,
    ) -> None:
        self._limit = MovingLimit(initial, minimum, maximum)
        self._backoff = backoff
        self._timeout = timeout

    @property
    def limit(self) -> float:
        """The limit now proposed, in calls."""
        return self._limit.value

    def on_finish(self, sample: Sample) -> None:
        """Learn from a call, unless it says nothing about the service."""
        if sample.outcome is not Outcome.IGNORED:
            self._learn(sample)

    def why(self) -> Mapping[str, object]:
        """Return the reason and the figures of the last move."""
        return self._limit.why

    def _learn(self, sample: Sample) -> None:
        if sample.outcome is Outcome.OVERLOADED or sample.latency > self._timeout:
            self._limit.move(
                math.floor(self._limit.value * self._backoff), "overloaded", latency=sample.latency
            )
        elif 2 * sample.in_flight >= self._limit.value:
            self._limit.move(self._limit.value + 1, "in use", in_flight=sample.in_flight)
