"""A wrapper that gives another policy one sample per window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from ._protocol import LimitPolicy, Outcome, Sample


@final
class Windowed(LimitPolicy):
    """Combines the calls of a window into one sample for another policy.

    The sample has the mean latency and the greatest number in flight, and is overloaded if
    any call was. A window with too few calls is discarded, and so are calls too short to be
    real.

    Source: ``WindowedLimit`` of Netflix/concurrency-limits, with its defaults. There a
    window lasts twice the shortest latency within bounds that are both 1 s, hence 1 s here.

    Args:
      policy: the policy that learns from the windows.
      window: length of a window, in seconds.
      at_least: the least number of calls in a window.
      shortest: calls that took less than this, in seconds, are discarded.
    """

    def __init__(
        self,
        policy: LimitPolicy,
        *,
        window: float = 1.0,
        at_least: int = 10,
        shortest: float = 100e-6,
    ) -> None:
        self._policy = policy
        self._window = window
        self._at_least = at_least
        self._shortest = shortest
        self._ends: float | None = None
        self._open()

    def _open(self) -> None:
        self._count = self._in_flight = 0
        self._latency = 0.0
        self._outcome = Outcome.SUCCESS

    @property
    def limit(self) -> float:
        """The limit the wrapped policy proposes, in calls."""
        return self._policy.limit

    def on_start(self, now: float, in_flight: int) -> None:
        """Pass the start on to the policy."""
        self._policy.on_start(now, in_flight)

    def on_finish(self, sample: Sample) -> None:
        """Add a call to the window, and close the window if it is over."""
        if sample.outcome is Outcome.IGNORED or sample.latency < self._shortest:
            return
        self._count += 1
        self._latency += sample.latency
        self._in_flight = max(self._in_flight, sample.in_flight)
        if sample.outcome is Outcome.OVERLOADED:
            self._outcome = Outcome.OVERLOADED
        if self._ends is None:
            self._ends = sample.end + self._window
        elif sample.end > self._ends:
            self._close(sample.end)

    def _close(self, now: float) -> None:
        if self._count >= self._at_least:
            mean = self._latency / self._count
            self._policy.on_finish(Sample(now - mean, now, self._in_flight, self._outcome))
        self._ends = now + self._window
        self._open()

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Pass the tick on to the policy."""
        self._policy.on_tick(now, in_flight, waiting)

    def why(self) -> Mapping[str, object]:
        """Return the evidence of the wrapped policy."""
        return self._policy.why()
