"""The interface of an adaptive policy: the calls it sees, and the limit it proposes.

A policy is a plain synchronous object. It reads no clock, does no I/O, and draws no
random number without a seed: the time is an argument. So the same calls give the same
limit in production, in a test and in a simulation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol, final

import attrs


@final
class Outcome(StrEnum):
    """How a call ended, as far as it matters to the limit."""

    SUCCESS = "success"
    """The service did the work."""
    IGNORED = "ignored"
    """The call says nothing about the service: it was cancelled, or failed in another way."""
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
    """How many calls it represents: more than 1 if there are too many calls to sample each."""

    @property
    def latency(self) -> float:
        """How long it took, in seconds."""
        return self.end - self.start


class LimitPolicy(Protocol):
    """Proposes a limit; the rules of the throttle remain as guard rails around it.

    Subclass it, and write ``limit``, ``on_finish`` and ``why``; ``on_start`` and ``on_tick``
    do nothing unless you override them. A class with the same five members works too,
    without the base.
    """

    @property
    @abstractmethod
    def limit(self) -> float:
        """The limit it proposes now, in tokens. A fraction is dropped when the limit is used."""
        ...

    def on_start(self, now: float, in_flight: int) -> None:
        """Record that a call starts; by default, do nothing.

        Args:
          now: the time, in seconds.
          in_flight: how many calls are in flight, this one included.
        """
        return

    @abstractmethod
    def on_finish(self, sample: Sample) -> None:
        """Record that a call has ended, at ``sample.end``."""
        ...

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Record the state, about every 100 ms; by default, do nothing.

        Args:
          now: the time, in seconds.
          in_flight: how many calls are in flight.
          waiting: how many tasks wait for a token.
        """
        return

    @abstractmethod
    def why(self) -> Mapping[str, object]:
        """Return the evidence of the last move: a ``"reason"``, and the figures behind it."""
        ...
