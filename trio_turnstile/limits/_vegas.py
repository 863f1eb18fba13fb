"""TCP Vegas, for calls: keep a small queue, estimated from the shortest latency ever seen."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import final

from ._moving import MovingLimit
from ._protocol import LimitPolicy, Outcome, Sample


@final
class VegasLimit(LimitPolicy):
    """Estimates the queue from a learned no-load latency, and keeps it between two marks.

    The grain is ``g = max(1, floor(log10(limit)))``, and the queue is estimated as
    ``q = ceil(limit * (1 - shortest / latency))``. After overload: limit - g. While less
    than half the limit is in use: hold. If q <= g: limit + 6 g. If q < 3 g: limit + g. If
    q > 6 g: limit - g. Otherwise hold. After 15 to 30 samples per unit of the limit, at
    random, the shortest latency is forgotten and learned anew.

    Source: ``VegasLimit`` of Netflix/concurrency-limits, with its defaults. Meant to be
    wrapped in `Windowed`.

    Args:
      initial: the limit to start with, in calls.
      minimum: the limit never goes below it.
      maximum: the limit never goes above it.
      smoothing: share of each move that is made, 0 to 1.
      probe_multiplier: samples per unit of the limit after which the shortest latency is
        learned anew.
      seed: the seed of the random intervals between two such probes.
    """

    def __init__(
        self,
        initial: float = 20,
        *,
        minimum: float = 1,
        maximum: float = 1000,
        smoothing: float = 1.0,
        probe_multiplier: int = 30,
        seed: int = 0,
    ) -> None:
        self._limit = MovingLimit(initial, minimum, maximum)
        self._smoothing = smoothing
        self._probe_multiplier = probe_multiplier
        self._random = random.Random(seed)
        self._shortest = math.inf
        self._probe_in(0)

    def _probe_in(self, count: int) -> None:
        self._count = count
        self._jitter = self._random.uniform(0.5, 1.0)

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
        self._count += 1
        if self._count >= self._jitter * self._probe_multiplier * self._limit.value:
            self._shortest = sample.latency
            self._probe_in(0)
        elif sample.latency < self._shortest:
            self._shortest = sample.latency
        else:
            self._follow(sample)

    def _follow(self, sample: Sample) -> None:
        queue = (
            math.ceil(self._limit.value * (1 - self._shortest / sample.latency))
            if sample.latency > 0
            else 0
        )
        step, reason = self._step(sample, queue)
        if step:
            aim = self._limit.clamp(self._limit.value + step)
            smoothed = (1 - self._smoothing) * self._limit.value + self._smoothing * aim
            self._limit.move(
                smoothed, reason, queue=queue, latency=sample.latency, shortest=self._shortest
            )

    def _step(self, sample: Sample, queue: int) -> tuple[int, str]:
        grain = max(1, math.floor(math.log10(self._limit.value)))
        if sample.outcome is Outcome.OVERLOADED:
            return -grain, "overloaded"
        if 2 * sample.in_flight < self._limit.value:
            return 0, "not in use"
        if queue <= grain:
            return 6 * grain, "no queue"
        if queue < 3 * grain:
            return grain, "short queue"
        if queue > 6 * grain:
            return -grain, "long queue"
        return 0, "good queue"
