"""A few primitives for pictures in SVG: a panel, boxes, bars, lines, arrows, and text.

A picture stands on a panel of its own, so that it is legible on any page. Its colours
follow the reader's light or dark scheme. Numbers are rounded, and nothing depends on the
time or the machine: the same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

Point = tuple[float, float]

WIDTH = 760
MARGIN = 28
SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
MONO = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace'
MONO_ADVANCE = 0.61
"""The width of a character of `MONO`, as a share of its size."""

COLOURS = {
    "blue": (("#d3e3fc", "#2f6bc4"), ("#213d66", "#79a9f3")),
    "orange": (("#fde3c5", "#b8650f"), ("#56391a", "#e9a158")),
    "green": (("#d2eedc", "#26804c"), ("#1f4a33", "#67cb94")),
    "violet": (("#e6dcf9", "#7350bb"), ("#41336a", "#b29af0")),
    "grey": (("#eceef2", "#798294"), ("#2c313b", "#8f99aa")),
}
"""For each colour, fill and stroke on light and on dark."""

LIGHT = {"panel": "#fcfcfd", "edge": "#d9dde4", "ink": "#1f2430", "soft": "#555d6d"}
DARK = {"panel": "#1b1e25", "edge": "#383d48", "ink": "#e6e9ef", "soft": "#aab2c0"}


def _scheme(inks: dict[str, str], shade: int) -> Iterable[str]:
    panel, edge, ink, soft = (inks[name] for name in ("panel", "edge", "ink", "soft"))
    yield f".panel {{ fill: {panel}; stroke: {edge} }}"
    yield f"text {{ fill: {ink} }} .soft {{ fill: {soft} }} .halo {{ stroke: {panel} }}"
    yield f".line {{ stroke: {soft} }} .grid {{ stroke: {edge} }} .head {{ fill: {soft} }}"
    for name, shades in COLOURS.items():
        fill, stroke = shades[shade]
        yield f".{name} {{ fill: {fill}; stroke: {stroke} }} .{name}-line {{ stroke: {stroke} }}"


def _style() -> str:
    rules = [
        f"text {{ font: 13px {SANS} }}",
        f".mono {{ font-family: {MONO} }}",
        ".small { font-size: 12px } .bold { font-weight: 600 }",
        ".middle { text-anchor: middle } .end { text-anchor: end }",
        ".halo { stroke-width: 4px; stroke-linejoin: round; paint-order: stroke }",
        "path, line { fill: none; stroke-width: 1.5px } .grid { stroke-width: 1px }",
        ".thick { stroke-width: 2.5px } .dash { stroke-dasharray: 5 4 }",
        ".head { stroke: none }",
        *_scheme(LIGHT, 0),
    ]
    dark = "\n".join(f"  {rule}" for rule in _scheme(DARK, 1))
    return "\n".join([*rules, f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}"])


def number(value: float) -> str:
    """Return the number with at most two decimals, and no zeros that say nothing."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _listed(points: Iterable[Point]) -> str:
    return " ".join(f"{number(x)},{number(y)}" for x, y in points)


def mono_width(text: str, size: float = 13) -> float:
    """Return how wide a text set in `MONO` is."""
    return len(text) * size * MONO_ADVANCE


class Picture:
    """One picture; each method draws one thing on top of what is there."""

    def __init__(self, title: str, description: str, height: float, width: float = WIDTH) -> None:
        self.width, self.height = width, height
        self._title, self._description = title, description
        self._parts: list[str] = []

    def _add(self, tag: str, classes: str, **attributes: float | str) -> None:
        pairs = {"class": classes, **attributes}
        texts = (
            f'{name.replace("_", "-")}="{value if isinstance(value, str) else number(value)}"'
            for name, value in pairs.items()
        )
        self._parts.append(f"<{tag} {' '.join(texts)}/>")

    def text(self, x: float, y: float, text: str, classes: str = "") -> None:
        """Write a line of text, whose baseline starts at the point."""
        pairs = f' class="{classes}"' if classes else ""
        self._parts.append(f'<text x="{number(x)}" y="{number(y)}"{pairs}>{escape(text)}</text>')

    def box(
        self, x: float, y: float, width: float, height: float, classes: str, *, radius: float = 5
    ) -> None:
        """Draw a box with rounded corners."""
        self._add("rect", classes, x=x, y=y, width=width, height=height, rx=radius)

    def line(self, start: Point, end: Point, classes: str = "line") -> None:
        """Draw a straight line."""
        self._add("line", classes, x1=start[0], y1=start[1], x2=end[0], y2=end[1])

    def path(self, data: str, classes: str = "line") -> None:
        """Draw a path, given in SVG's own language."""
        self._add("path", classes, d=data)

    def polyline(self, points: Sequence[Point], classes: str = "line") -> None:
        """Draw straight lines from point to point."""
        self.path("M" + " L".join(f"{number(x)} {number(y)}" for x, y in points), classes)

    def area(self, points: Sequence[Point], classes: str) -> None:
        """Draw an area with straight edges."""
        self._add(
            "polygon", classes, points=" ".join(f"{number(x)},{number(y)}" for x, y in points)
        )

    def head(self, tip: Point, dx: float, dy: float) -> None:
        """Draw the head of an arrow that points to the right, the left, up or down."""
        x, y = tip
        wings = [(x - 8 * dx - 4 * dy * s, y - 8 * dy - 4 * dx * s) for s in (1, -1)]
        self._add("polygon", "head", points=_listed([tip, *wings]))

    def arrow(self, start: Point, end: Point, classes: str = "line") -> None:
        """Draw an arrow, level or upright."""
        dx = (end[0] > start[0]) - (end[0] < start[0])
        dy = 0 if dx else (end[1] > start[1]) - (end[1] < start[1])
        self.line(start, (end[0] - 6 * dx, end[1] - 6 * dy), classes)
        self.head(end, dx, dy)

    def __str__(self) -> str:
        """Return the file."""
        width, height = number(self.width), number(self.height)
        body = "\n".join(self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-labelledby="title description">\n'
            f'<title id="title">{escape(self._title)}</title>\n'
            f'<desc id="description">{escape(self._description)}</desc>\n'
            f"<style>\n{_style()}\n</style>\n"
            f'<rect class="panel" x="0.5" y="0.5" width="{number(self.width - 1)}" '
            f'height="{number(self.height - 1)}" rx="10"/>\n{body}\n</svg>\n'
        )
