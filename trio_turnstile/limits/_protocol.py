"""What an adaptive policy is told, and what it proposes.

A policy is a plain synchronous object. It reads no clock, does no I/O, and draws no
random number without a seed: time comes in as an argument. So the same calls give
the same limit in production, in a test and in a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, final

import attrs


@final
class Outcome(StrEnum):
    """How a call ended, as far as the limit is concerned."""

    SUCCESS = "success"
    """The service did the work."""
    IGNORED = "ignored"
    """The call says nothing of the service: it was cancelled, or failed in another way."""
    OVERLOADED = "overloaded"
    """The service asked for less: a 429, a 503, a time-out."""


@final
@attrs.frozen
class Sample:
    """One finished call."""

    start: float
    """When it started, in seconds."""
    end: float
    """When it ended, in seconds on the same clock."""
    in_flight: int
    """How many calls were in flight when it started, this one included."""
    outcome: Outcome = Outcome.SUCCESS
    """How it ended."""
    weight: int = 1
    """How many calls it stands for: more than 1 where they are too many to tell of each."""

    @property
    def latency(self) -> float:
        """How long it took, in seconds."""
        return self.end - self.start


class LimitPolicy(Protocol):
    """Proposes a limit; the throttle rules stay round it as guard rails."""

    @property
    def limit(self) -> float:
        """The limit it proposes now, in tokens; fractions are kept, and cut off last."""
        ...

    def on_start(self, now: float, in_flight: int) -> None:
        """Take note that a call starts at ``now``; ``in_flight`` includes it."""
        ...

    def on_finish(self, sample: Sample) -> None:
        """Take note of a call that has ended, at ``sample.end``."""
        ...

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Take note of the state, about every 100 ms.

        Args:
          now: the time, in seconds.
          in_flight: how many calls are in flight.
          waiting: how many wait for a token.
        """
        ...

    def why(self) -> Mapping[str, object]:
        """Return the evidence of its last move: a ``"reason"``, and the figures behind it."""
        ...
