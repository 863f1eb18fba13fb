"""Charts of a report, as SVG inside HTML. Pure; colours and fonts come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from typing import final

import attrs

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 190, 46, 22, 8, 10
"""The size of a chart and its margins, in its own units."""


@final
@attrs.frozen
class Curve:
    """A curve with the name of its style."""

    style: str
    points: Sequence[tuple[float, float]]
    """Times and values."""
    stepped: bool = False
    """Whether a value holds until the next one."""


@final
@attrs.frozen
class Mark:
    """A mark at a point in time, with a text that shows when the pointer is over it."""

    time: float
    value: float
    text: str


@final
@attrs.frozen
class Frame:
    """The range of times and values that a chart shows."""

    start: float
    end: float
    top: float

    def x(self, time: float) -> float:
        """Return the position of a time."""
        share = (time - self.start) / max(1e-9, self.end - self.start)
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the position of a value."""
        share = min(1.0, value / self.top)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def chart(
    title: str, start: float, end: float, curves: Sequence[Curve], marks: Iterable[Mark] = ()
) -> str:
    """Return a chart.

    Args:
      title: describes the chart for those who cannot see it.
      start: the time at the left.
      end: the time at the right.
      curves: the curves; the first one is drawn as an area.
      marks: the marks, drawn on top.
    """
    values = [value for curve in curves for _, value in curve.points if value < math.inf]
    frame = Frame(start, end, nice(max(values, default=1)))
    parts = [
        *_axes(frame),
        *(_path(frame, curve, is_area=at == 0) for at, curve in enumerate(curves)),
        *(_mark(frame, mark) for mark in marks),
    ]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def nice(value: float) -> float:
    """Return the next round number from ``value`` up: 1, 2, 4, 5 or 8 followed by zeros."""
    value = max(value, 1.0)
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 2, 4, 5, 8, 10) if step * unit >= value)


def _axes(frame: Frame) -> Iterator[str]:
    for value in (0.0, frame.top / 2, frame.top):
        y = f"{frame.y(value):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:g}</text>'
    form = "%H:%M:%S" if frame.end - frame.start < 3600 else "%H:%M"
    if frame.end - frame.start > 86_400:
        form = "%d %b %H:%M"
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        time = frame.start + share * (frame.end - frame.start)
        text = f"{datetime.fromtimestamp(time):{form}}"
        yield (
            f'<text x="{frame.x(time):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{text}</text>'
        )


def _path(frame: Frame, curve: Curve, *, is_area: bool) -> str:
    places = [(frame.x(time), frame.y(value)) for time, value in curve.points if value < math.inf]
    if not places:
        return ""
    steps = [f"M{places[0][0]:.1f} {places[0][1]:.1f}"]
    for x, y in places[1:]:
        steps.append(f"H{x:.1f}V{y:.1f}" if curve.stepped else f"L{x:.1f} {y:.1f}")
    if curve.stepped:
        steps.append(f"H{WIDTH - RIGHT}")
    line = "".join(steps)
    drawn = f'<path class="line {curve.style}" d="{line}"/>'
    if not is_area:
        return drawn
    ground = frame.y(0)
    area = f"{line}V{ground}H{places[0][0]:.1f}Z"
    return f'<path class="area {curve.style}" d="{area}"/>{drawn}'


def _mark(frame: Frame, mark: Mark) -> str:
    x, y = frame.x(mark.time), frame.y(mark.value)
    return (
        f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
        f"<title>{escape(mark.text)}</title></circle>"
    )
