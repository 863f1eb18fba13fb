"""The ratio of a long-term to a short-term latency, as a brake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from ._moving import MovingLimit
from ._protocol import LimitPolicy, Outcome, Sample

_WARM_UP = 10


@final
class Gradient2Limit(LimitPolicy):
    """Shrinks as latency rises above its own long-term mean; always adds a little headroom.

    With ``gradient = clamp(tolerance * long / latency, 0.5, 1)``, the limit becomes
    ``(1 - smoothing) * limit + smoothing * (limit * gradient + queue)``. Here ``long`` is
    an exponential mean (the plain mean of the first 10 samples), pulled down by 5 %
    whenever it is above twice the latency. The limit is held while less than half of it is
    in use. Overload answers are treated like any others.

    Source: ``Gradient2Limit`` of Netflix/concurrency-limits, with its defaults. Meant to be
    wrapped in `Windowed`.

    Args:
      initial: the limit to start with, in calls.
      minimum: the limit never goes below it.
      maximum: the limit never goes above it.
      smoothing: share of each move that is made, 0 to 1.
      queue: headroom, in calls.
      long_window: how many samples the long-term mean reaches back.
      tolerance: up to this many times the long-term mean, a latency is not slow.
    """

    def __init__(
        self,
        initial: float = 20,
        *,
        minimum: float = 20,
        maximum: float = 200,
        smoothing: float = 0.2,
        queue: float = 4,
        long_window: int = 600,
        tolerance: float = 1.5,
    ) -> None:
        self._limit = MovingLimit(initial, minimum, maximum)
        self._smoothing = smoothing
        self._queue = queue
        self._factor = 2 / (long_window + 1)
        self._tolerance = tolerance
        self._long = 0.0
        self._count = 0

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
        latency = max(sample.latency, 1e-9)
        self._remember(latency)
        if self._long / latency > 2:
            self._long *= 0.95
        if sample.in_flight < self._limit.value / 2:
            return
        gradient = max(0.5, min(1.0, self._tolerance * self._long / latency))
        aim = self._limit.value * gradient + self._queue
        smoothed = (1 - self._smoothing) * self._limit.value + self._smoothing * aim
        self._limit.move(smoothed, "gradient", gradient=gradient, latency=latency, long=self._long)

    def _remember(self, latency: float) -> None:
        self._count += 1
        factor = 1 / self._count if self._count <= _WARM_UP else self._factor
        self._long += factor * (latency - self._long)
