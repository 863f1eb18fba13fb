"""What an adaptive policy is: something pure that proposes a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class LimitPolicy(Protocol):
    """Proposes a limit; the throttle rules stay round it as guard rails.

    A policy reads no clock and does no I/O: time comes in as an argument.
    """

    @property
    def limit(self) -> float:
        """The limit it proposes now, in tokens; fractions are kept and floored late."""
        ...

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        """Take note of the state, about every 100 ms.

        Args:
          now: trio's clock, in seconds.
          in_flight: how many tokens are borrowed.
          waiting: how many tasks wait for one.
        """
        ...

    def why(self) -> Mapping[str, object]:
        """Return the evidence of its last move, for `Decision.evidence`."""
        ...
