"""A limit that moves between two bounds and keeps the reason of its last move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final


def check_bounds(initial: float, minimum: float, maximum: float) -> None:
    """Check that ``initial`` lies between the bounds of a policy.

    Raises:
      ValueError: if the three are not in order, or ``minimum`` is below 1.
    """
    if not 1 <= minimum <= initial <= maximum:
        raise ValueError(
            "a policy needs 1 <= minimum <= initial <= maximum, "
            f"not minimum={minimum!r}, initial={initial!r}, maximum={maximum!r}"
        )


def clamped(limit: float, minimum: float, maximum: float) -> float:
    """Return the nearest limit within the bounds."""
    return min(maximum, max(minimum, limit))


@final
class MovingLimit:
    """The limit of a policy that learns only from finished calls.

    Args:
      initial: the limit to start with, in calls.
      minimum: the limit never goes below it.
      maximum: the limit never goes above it.
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
        return clamped(limit, self._minimum, self._maximum)

    def move(self, limit: float, reason: str, **figures: object) -> None:
        """Move to a limit, or as near as the bounds allow, and keep the reason if it moved."""
        before, self.value = self.value, self.clamp(limit)
        if self.value != before:
            self.why = {"reason": reason, "before": before, "after": self.value, **figures}
