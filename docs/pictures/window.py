"""Draws what a step has in hand over time, against its limit and its window.

The figures are those of a recorded run: a service refuses calls for some seconds, and
later the next step is slow for some seconds. The times are such that no two items end at
the same moment: trio runs the tasks of one moment in random order, and the picture is to be
the same on each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import trio
from axis import Axis, draw_axis
from settled import Settled, virtual_clock
from svg import MARGIN, WIDTH, Picture, Point

from trio_turnstile import Consumer, PipelineRun, Processor, Producer, Retry

LIMIT, WINDOW, ITEMS = 3, 6, 36
REFUSES, SLOW = (4.0, 9.0), (13.0, 20.0)
"""From when to when the service refuses calls, and the next step is slow; in seconds."""

LEFT, TOP, UNIT = 62.0, 54.0, 26.0
"""Where the plot begins, and how high one item is."""


class Held(NamedTuple):
    """How many items the step has in hand, by what they do."""

    running: int
    waiting: int
    passing_on: int


LAYERS = (
    ("blue", "run, each with a token"),
    ("orange", "back off or wait for a token"),
    ("green", "wait for room in the next step"),
)
"""For each field of `Held`, its colour and its words."""


def _during(span: tuple[float, float]) -> bool:
    return span[0] <= trio.current_time() < span[1]


class Recorder:
    """The steps of the pipeline; counts what the first has in hand."""

    def __init__(self) -> None:
        self.run: PipelineRun | None = None
        self._running = self._returned = 0

    async def fetch(self, item: int) -> int:
        """Ask the service, which may refuse."""
        self._running += 1
        try:
            await trio.sleep(1.1 + item * 0.17 % 0.6)
        finally:
            self._running -= 1
        if _during(REFUSES):
            raise OSError("the service refuses calls")
        self._returned += 1
        return item

    async def store(self, _: int) -> None:
        """Take a fetched item."""
        await trio.sleep(1.97 if _during(SLOW) else 0)

    def look(self) -> Held | None:
        """Return what the first step has in hand now."""
        if self.run is None:
            return None
        report = self.run.steps[0]
        passing_on = self._returned - report.completed
        return Held(self._running, report.in_flight - self._running - passing_on, passing_on)


def record() -> list[tuple[float, Held]]:
    """Run the pipeline; return what its first step had in hand over time."""
    recorder = Recorder()
    policy = Retry(100, backoff=lambda failures: min(2.49, 0.55 * failures))
    fetch = Processor(recorder.fetch, limiter=LIMIT, window=WINDOW, on_error=[policy])
    pipeline = Producer(range(ITEMS)) | fetch | Consumer(recorder.store, limiter=1, window=1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            recorder.run = await nursery.start(pipeline.run)

    settled = Settled(recorder.look)
    trio.run(main, clock=virtual_clock(), instruments=[settled])
    return settled.steps()


def _height(items: float) -> float:
    return TOP + (WINDOW - items) * UNIT


def _outline(axis: Axis, tops: Sequence[tuple[float, int]]) -> list[Point]:
    """Return the corners of a line that goes up and down in steps."""
    points: list[Point] = []
    height = 0
    for time, top in [*tops, (axis.until, 0)]:
        points += [(axis(time), _height(height)), (axis(time), _height(top))]
        height = top
    return points


def draw_layers(picture: Picture, axis: Axis, steps: Sequence[tuple[float, Held]]) -> None:
    """Draw the layers, one upon the other: the whole first, and the rest over it."""
    for layer in reversed(range(len(LAYERS))):
        tops = [(time, sum(held[: layer + 1])) for time, held in steps]
        picture.area(_outline(axis, tops), LAYERS[layer][0])


def draw_bounds(picture: Picture, axis: Axis) -> None:
    """Draw the limit and the window as lines, and the scale of items."""
    for items in range(WINDOW + 1):
        picture.text(LEFT - 10, _height(items) + 4, str(items), "small soft end")
    for value, name in ((LIMIT, "limiter"), (WINDOW, "window")):
        y = _height(value)
        picture.line((LEFT, y), (axis(axis.until), y), "line dash")
        picture.text(axis(axis.until) + 8, y + 4, f"{name}={value}", "mono small")


def draw_times(picture: Picture, axis: Axis) -> None:
    """Draw above the plot when something is the matter."""
    for (begin, end), words in ((REFUSES, "the service refuses"), (SLOW, "the next step is slow")):
        y, x, until = TOP - 24, axis(begin), axis(end)
        picture.polyline([(x, y + 5), (x, y), (until, y), (until, y + 5)])
        picture.text((x + until) / 2, y - 7, words, "small middle")


def draw_legend(picture: Picture, y: float) -> None:
    """Draw what the colours mean."""
    x = LEFT
    for colour, words in LAYERS:
        picture.box(x, y, 14, 14, colour, radius=3)
        picture.text(x + 21, y + 11.5, words, "small")
        x += 46 + 6.6 * len(words)


def draw() -> str:
    """Return the picture."""
    steps = record()
    axis = Axis(steps[-1][0], LEFT, WIDTH - MARGIN - 76)
    bottom = _height(0)
    picture = Picture(
        "A window of six items and three tokens",
        "Items in hand over time. At most three run. At most six are in hand, counting those "
        "that back off and those that wait for room in the next step.",
        bottom + 74,
    )
    draw_layers(picture, axis, steps)
    draw_bounds(picture, axis)
    draw_times(picture, axis)
    draw_axis(picture, axis, bottom)
    draw_legend(picture, bottom + 42)
    return str(picture)
