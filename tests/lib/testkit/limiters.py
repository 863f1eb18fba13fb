"""Limiters, throttles and policies for tests of limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from trio_turnstile import Limiter, Reason, Throttle
from trio_turnstile.limits import Outcome, Sample

STEP_BY_STEP = Throttle(up=1, down=1, hold=0)
"""Signals move the limit by one token, each time they come."""


def free(name: str = "api", ceiling: float = 1, **options: Any) -> Limiter:
    """Return a limiter that signals can move as far as 0, without a hold."""
    return Limiter(name, ceiling, throttle=Throttle(min=0, hold=0), **options)


def reasons(limiter: Limiter) -> list[Reason]:
    """Return the reasons of the decisions of a limiter, oldest first."""
    return [decision.reason for decision in limiter.decisions]


@attrs.define(eq=False)
class Proposal:
    """A policy that proposes ``limit``, which a test may change, and keeps the samples."""

    limit: float = 100.0
    ticks: list[tuple[float, int, int]] = attrs.field(factory=list)
    starts: list[tuple[float, int]] = attrs.field(factory=list)
    samples: list[Sample] = attrs.field(factory=list)

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        self.ticks.append((now, in_flight, waiting))

    def on_start(self, now: float, in_flight: int) -> None:
        self.starts.append((now, in_flight))

    def on_finish(self, sample: Sample) -> None:
        self.samples.append(sample)

    def why(self) -> Mapping[str, object]:
        return {"proposed": self.limit}

    @property
    def outcomes(self) -> list[Outcome]:
        return [sample.outcome for sample in self.samples]


@attrs.define(eq=False)
class Halving(Proposal):
    """A policy that halves its limit after each overload."""

    def on_finish(self, sample: Sample) -> None:
        self.samples.append(sample)
        if sample.outcome is Outcome.OVERLOADED:
            self.limit /= 2
