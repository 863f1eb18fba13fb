"""Draws the wings of the package, and which may import which, from the tests' own table."""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path

from layers import Graph, Spot, ordered, places, reachable, reduced, spots
from svg import MARGIN, WIDTH, Picture, Point, number

LAYOUT = Path(__file__).parents[2] / "tests" / "test_layout.py"

WORDS = {
    "__init__": "the public names",
    "_engine": "items, workers, attempts, counts",
    "_errors": "exceptions",
    "_texts": "texts for people that never fail",
    "_ledger": "what runs have done, on disk",
    "_limiting": "limiters, and what moves them",
    "_phases": "operations in four phases",
    "_pipelines": "items through steps",
    "_util": "checks and small helpers",
    "clusters": "jobs on Slurm, SGE, this machine",
    "cli": "the command turnstile",
    "integrations": "drawings by other libraries",
    "limits": "policies for adaptive limits",
    "simulation": "simulated services",
    "testing": "helpers for the users' tests",
}

BOX, BEND, HEIGHT, GAP, ROW, TOP = 216.0, 10.0, 46.0, 24.0, 82.0, 24.0


def may_import() -> dict[str, set[str]]:
    """Return the table that the tests enforce."""
    table: dict[str, set[str]] = runpy.run_path(str(LAYOUT))["MAY_IMPORT"]
    return table


def through(table: Graph) -> set[str]:
    """Return the wings that may import all that their arrows lead to, by way of others too."""
    return {wing for wing in table if table[wing] == reachable(table, wing)}


def arrows(table: Graph) -> dict[str, set[str]]:
    """Return the arrows to draw: those that say something that the others do not."""
    return reduced(table, through(table))


def _label(wing: str) -> str:
    return "trio_turnstile" if wing == "__init__" else wing


def _draw_wing(picture: Picture, x: float, y: float, wing: str, *, dashed: bool) -> None:
    colour = "grey" if wing.startswith("_") and wing != "__init__" else "blue"
    classes = f"{colour} dash" if dashed else colour
    picture.box(x - BOX / 2, y, BOX, HEIGHT, classes)
    picture.text(x, y + 20, _label(wing), "mono bold middle")
    picture.text(x, y + 37, WORDS.get(wing, ""), "small soft middle")


def _draw_piece(picture: Picture, start: Point, end: Point) -> None:
    """Draw a piece of an arrow, from the foot of one row to the top of the next."""
    (x, y), (to_x, to_y) = start, end
    middle = (y + to_y) / 2
    points = (x, y, x, middle, to_x, middle, to_x, to_y)
    picture.path("M{} {} C{} {} {} {} {} {}".format(*map(number, points)))


def _draw_arrows(
    picture: Picture, pieces: Sequence[tuple[Spot, Spot]], at: Mapping[Spot, Point]
) -> None:
    for tail, head in pieces:
        (x, y), tip = at[tail], at[head]
        if isinstance(head, str):
            _draw_piece(picture, (x, y + HEIGHT), (tip[0], tip[1] - 6))
            picture.head(tip, 0, 1)
        else:
            _draw_piece(picture, (x, y + HEIGHT), tip)
            picture.line(tip, (tip[0], tip[1] + HEIGHT))


def _draw_legend(picture: Picture, y: float) -> None:
    picture.line((MARGIN, y), (WIDTH - MARGIN, y), "grid")
    for x, row, colour, text in (
        (MARGIN, 0, "blue", "public"),
        (MARGIN, 1, "grey", "private"),
        (MARGIN + 120, 1, "blue dash", "may import only the wings that its own arrows lead to"),
    ):
        picture.box(x, y + 14 + row * 24, 26, 14, colour, radius=3)
        picture.text(x + 34, y + 25.5 + row * 24, text, "small")
    picture.arrow((MARGIN + 120, y + 21), (MARGIN + 146, y + 21))
    words = "may import that wing, and the wings further along the arrows"
    picture.text(MARGIN + 154, y + 25.5, words, "small")


def _described(table: Graph) -> str:
    return "; ".join(
        f"{_label(wing)} may import {', '.join(map(_label, sorted(targets))) or 'no wing'}"
        for wing, targets in table.items()
    )


def draw() -> str:
    """Return the picture."""
    table = may_import()
    rows, pieces = spots(arrows(table))
    rows = ordered(rows, pieces)
    width: dict[Spot, float] = {s: BOX if isinstance(s, str) else BEND for row in rows for s in row}
    middle = places(rows, pieces, width, GAP)
    left = min(x - width[spot] / 2 for spot, x in middle.items())
    right = max(x + width[spot] / 2 for spot, x in middle.items())
    shift = (WIDTH - left - right) / 2
    at = {
        spot: (middle[spot] + shift, TOP + index * ROW)
        for index, row in enumerate(rows)
        for spot in row
    }
    bottom = TOP + (len(rows) - 1) * ROW + HEIGHT + 22
    picture = Picture("The wings of trio_turnstile", _described(table), bottom + 66)
    _draw_arrows(picture, pieces, at)
    for spot, (x, y) in at.items():
        if isinstance(spot, str):
            _draw_wing(picture, x, y, spot, dashed=spot not in through(table))
    _draw_legend(picture, bottom)
    return str(picture)
