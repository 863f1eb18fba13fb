"""The axis of time that pictures of runs have in common."""

from __future__ import annotations

from svg import Picture, number


class Axis:
    """Where a time stands in the picture."""

    def __init__(self, until: float, left: float, right: float) -> None:
        self.until, self._left = until, left
        self._scale = (right - left) / until

    def __call__(self, time: float) -> float:
        return self._left + time * self._scale


def draw_axis(picture: Picture, axis: Axis, y: float) -> None:
    """Draw the axis of time, with a mark every two seconds."""
    picture.line((axis(0), y), (axis(axis.until), y))
    for second in range(0, int(axis.until) + 1, 2):
        picture.line((axis(second), y), (axis(second), y + 5))
        label = f"{number(second)} s" if second == 0 else number(second)
        picture.text(axis(second), y + 20, label, "small soft middle")
