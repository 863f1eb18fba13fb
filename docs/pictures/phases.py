"""Draws two operations in four phases, and the tokens in use, from a recorded run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio
from axis import Axis, draw_axis
from settled import Settled, virtual_clock
from svg import MARGIN, WIDTH, Picture

from trio_turnstile import Channels, Limiter, Phase, Scalable, run_phases

PHASES: tuple[Phase, ...] = ("prepare", "work", "monitor", "cleanup")
COLOURS = dict(zip(PHASES, ("blue", "violet", "orange", "grey"), strict=True))
OPERATIONS: Mapping[str, Mapping[Phase, float]] = {
    "first": {"prepare": 2, "work": 2.5, "monitor": 3.5, "cleanup": 3},
    "second": {"prepare": 2.5, "work": 2, "monitor": 3, "cleanup": 2},
}
"""For each operation, the seconds of its phases."""
TOKENS = 1

Span = tuple[str, Phase, float, float]
"""An operation, its phase, and when that began and ended."""

LEFT, TOP, ROW, BAR = 150.0, 52.0, 48.0, 32.0


class Recorded(Scalable):
    """Sleeps in each phase, and records when it began and ended."""

    def __init__(self, name: str, spans: list[Span], claim: Callable[[str], None]) -> None:
        self._name, self._spans, self._claim = name, spans, claim

    async def prepare(self, channels: Channels) -> None:
        self._claim(self._name)
        await self._record("prepare")

    async def work(self, channels: Channels) -> None:
        await self._record("work")

    async def monitor(self, channels: Channels) -> None:
        await self._record("monitor")

    async def cleanup(self, channels: Channels) -> None:
        await self._record("cleanup")

    async def _record(self, phase: Phase) -> None:
        begin = trio.current_time()
        await trio.sleep(OPERATIONS[self._name][phase])
        self._spans.append((self._name, phase, begin, trio.current_time()))


def record() -> tuple[list[Span], list[tuple[float, list[str]]]]:
    """Run the operations; return their phases, and which of them hold a token over time."""
    spans: list[Span] = []
    holders: dict[object, str] = {}
    limiter = Limiter("cluster", TOKENS)

    def claim(name: str) -> None:
        for borrower in limiter.statistics().borrowers:
            holders.setdefault(borrower, name)

    def look() -> list[str]:
        return sorted(holders.get(borrower, "?") for borrower in limiter.statistics().borrowers)

    async def main() -> None:
        await run_phases((Recorded(name, spans, claim) for name in OPERATIONS), limiter=limiter)

    settled = Settled(look)
    trio.run(main, clock=virtual_clock(), instruments=[settled])
    return spans, settled.steps()


def draw_spans(picture: Picture, axis: Axis, spans: Sequence[Span]) -> None:
    """Draw a row of bars for each operation."""
    for row, name in enumerate(OPERATIONS):
        y = TOP + row * ROW
        picture.text(MARGIN, y + 21, f"{name} operation")
        for _, phase, begin, end in [span for span in spans if span[0] == name]:
            x, width = axis(begin), axis(end) - axis(begin)
            picture.box(x + 1, y, width - 2, BAR, COLOURS[phase], radius=4)
            picture.text(x + width / 2, y + 21, phase, "mono small middle")


def draw_tokens(
    picture: Picture, axis: Axis, y: float, tokens: Sequence[tuple[float, list[str]]]
) -> None:
    """Draw how many tokens are in use, and which operation holds them."""
    picture.text(MARGIN, y + 14, "tokens in use")
    picture.text(MARGIN, y + 30, f"limiter={TOKENS}", "mono small soft")
    ends = [time for time, _ in tokens[1:]] + [axis.until]
    for (begin, names), end in zip(tokens, ends, strict=True):
        x, width = axis(begin), axis(end) - axis(begin)
        label = f"{len(names)}: the {' and the '.join(names)} holds it" if names else "0"
        height = BAR * max(len(names) / TOKENS, 0.06)
        colour = "green" if names else "grey"
        picture.box(x + 1, y + BAR - height, width - 2, height, colour, radius=2)
        picture.text(x + width / 2, y + 21, label, "small middle")


def draw_returns(picture: Picture, axis: Axis, y: float, spans: Sequence[Span]) -> None:
    """Draw a line down to ``y`` where an operation gives its token back."""
    for name, phase, _, end in spans:
        if phase == "monitor":
            picture.line((axis(end), TOP - 22), (axis(end), y), "line dash")
            label = f"the {name} gives its token back"
            picture.text(axis(end) - 6, TOP - 14, label, "small soft end")


def draw() -> str:
    """Return the picture."""
    spans, tokens = record()
    spans.sort(key=lambda span: span[2])
    axis = Axis(max(end for *_, end in spans), LEFT, WIDTH - MARGIN)
    lane = TOP + len(OPERATIONS) * ROW + 12
    bottom = lane + BAR + 14
    picture = Picture(
        "Four phases, two operations, one token",
        "Each operation prepares, works, monitors and cleans up. The second operation begins "
        "when the monitor of the first ends, as clean-up holds no token.",
        bottom + 36,
    )
    draw_returns(picture, axis, lane + BAR, spans)
    draw_spans(picture, axis, spans)
    draw_tokens(picture, axis, lane, tokens)
    draw_axis(picture, axis, bottom)
    return str(picture)
