"""A number that moves between two bounds, and remembers why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final


def check_bounds(initial: float, minimum: float, maximum: float) -> None:
    """Raise unless a policy may start at ``initial`` and keep between the bounds.

    Raises:
      ValueError: if the three are not in order, or the least is under 1.
    """
    if not 1 <= minimum <= initial <= maximum:
        raise ValueError(
            "it must be that 1 <= minimum <= initial <= maximum, "
            f"not minimum={minimum!r}, initial={initial!r}, maximum={maximum!r}"
        )


@final
class MovingLimit:
    """The limit of a policy that learns from finished calls alone.

    Args:
      initial: the limit to start with, in calls.
      minimum: never below it.
      maximum: never above it.
    """

    def __init__(self, initial: float, minimum: float, maximum: float) -> None:
        check_bounds(initial, minimum, maximum)
        self.value: float = float(initial)
        """The limit now, in calls."""
        self.why: Mapping[str, object] = {"reason": "initial"}
        """The reason and the figures of the last move."""
        self._minimum = minimum
        self._maximum = maximum

    def clamp(self, limit: float) -> float:
        """Return the nearest limit within the bounds."""
        return min(self._maximum, max(self._minimum, limit))

    def move(self, limit: float, reason: str, **figures: object) -> None:
        """Go to a limit, or as near as the bounds allow; staying is no move."""
        before, self.value = self.value, self.clamp(limit)
        if self.value != before:
            self.why = {"reason": reason, "before": before, "after": self.value, **figures}
