"""A report for the terminal, drawn by rich."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trio_turnstile.integrations.statistics import LimiterRecord, RunRecord, SessionRecord

from ._durations import format_clock
from ._printable import printable
from ._report_findings import bottleneck, outcome, remarks

COUNTS = ("received", "completed", "failed", "diverted", "cancelled", "retried")

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = ".:-=+*#@"
CELLS = 40
"""How wide the curve of a limiter is."""

SHOWN = 5
"""How many errors of a run are shown: the newest."""


def show(session: SessionRecord, console: Console) -> None:
    """Print the report."""
    for part in _parts(session, _bars(console)):
        console.print(part)


def _bars(console: Console) -> str:
    """Return the characters to draw with, which the encoding of the terminal must have."""
    try:
        BARS.encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN_BARS
    return BARS


def _parts(session: SessionRecord, bars: str) -> Iterator[RenderableType]:
    end = session.seen if session.ended is None else session.ended
    yield Text(
        f"{printable(session.name)}, {datetime.fromtimestamp(session.started):%Y-%m-%d %H:%M:%S}, "
        f"{format_clock(end - session.started)}",
        style="bold",
    )
    yield Text(printable(bottleneck(session)))
    for remark in remarks(session):
        yield Text(remark, style="dim")
    if session.limiters:
        yield _limiters(session.limiters, bars)
    for run in session.runs:
        yield Text(f"\n{printable(run.name)}: {outcome(run)}")
        yield _steps(run)
        yield from _errors(run)


def _limiters(limiters: tuple[LimiterRecord, ...], bars: str) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for head in ("limiter", "limit", "running", "full"):
        table.add_column(head, justify="left" if head == "limiter" else "right")
    table.add_column("running over time", no_wrap=True)
    for limiter in limiters:
        limits = sorted({point.limit for point in limiter.points})
        span = "" if not limits else f"{limits[0]:g}"
        table.add_row(
            printable(limiter.name),
            span if len(limits) < 2 else f"{span} to {limits[-1]:g}",
            f"{limiter.running:.3g}",
            f"{limiter.saturated:.0%}",
            sparkline([point.running for point in limiter.points], bars),
        )
    return Padding(table, (1, 0, 0, 0))


def sparkline(values: list[float], bars: str = BARS) -> str:
    """Return a curve of at most `CELLS` characters, which are otherwise one for each value."""
    cells = min(CELLS, len(values))
    top = max(values, default=0) or 1
    groups = [
        values[i * len(values) // cells : (i + 1) * len(values) // cells] for i in range(cells)
    ]
    return "".join(bars[int((len(bars) - 1) * max(group) / top)] for group in groups)


def _steps(run: RunRecord) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in COUNTS:
        table.add_column(name, justify="right")
    for step in run.steps:
        table.add_row(printable(step.name), *(f"{step.counts[name]:,}" for name in COUNTS))
    return table


def _errors(run: RunRecord) -> Iterator[RenderableType]:
    if run.error_types:
        types = ", ".join(f"{count:,} {printable(name)}" for name, count in run.error_types.items())
        yield Text(f"errors: {types}")
    for error in run.errors[-SHOWN:]:
        what = error.item or "/".join(error.identifiers)
        yield Text(f"  {printable(error.step)} {printable(what)}: {printable(error.message)}"[:200])
