"""Progress of a run in a terminal, drawn by rich: ``pip install 'trio-turnstile[rich]'``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import trio

from trio_turnstile import Manager, PipelineReport, PipelineRun, Report, Results

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["show_progress"]

AnyRun: TypeAlias = PipelineRun | Results[Any] | Manager
"""Anything with live counts."""

_HEADS = ("", "in hand", "completed", "discarded", "failed", "diverted", "cancelled", "retried")
_ALWAYS = 3
"""This many columns are shown even if they contain only zeros."""


async def show_progress(run: AnyRun, *, console: Console | None = None, every: float = 0.2) -> None:
    """Draw the counts of a run, step by step, until it has ended.

    Start it beside the run; it delays nothing::

        async with trio.open_nursery() as nursery:
            run = await nursery.start(pipeline.run)
            nursery.start_soon(show_progress, run)

    On a terminal, the counts are redrawn in place. Elsewhere, such as in a file, they are
    written once, at the end. Output of the program goes above the counts. The last counts stay.

    Args:
      run: a run of a pipeline, the results of one, or the manager of a run of phases.
      console: where to draw; by default, standard error.
      every: seconds from one drawing to the next. The last drawing comes when the run has
        ended, so the task ends at most this much later.

    Raises:
      ValueError: if ``every`` is not more than 0.
      ImportError: if rich is not installed.

    Cancellation:
      The counts are drawn once more, and stay. The run is not affected.
    """
    from rich.console import Console
    from rich.live import Live

    if not every > 0:
        raise ValueError(f"every must be more than 0 seconds, not {every!r}")
    await trio.lowlevel.checkpoint()
    live = Live(
        console=console or Console(stderr=True),
        auto_refresh=False,
        get_renderable=lambda: _table(run),
    )
    with suppress(OSError), live:  # a terminal can disappear, and the run goes on
        while not run.report().ended:
            live.refresh()
            await trio.sleep(every)


def _table(run: AnyRun) -> Table:
    """Return the current counts, and the error that stops the run early, if there is one."""
    from rich.table import Table
    from rich.text import Text

    rows = _rows(run.report())
    shown = [i for i in range(len(_HEADS)) if i <= _ALWAYS - 1 or any(row[i] for row in rows)]
    table = Table(box=None, pad_edge=False)
    for index in shown:
        table.add_column(_HEADS[index], justify="right" if index else "left")
    for row in rows:
        table.add_row(*(Text(str(row[index])) for index in shown))
    if run.stopped_by is not None:
        table.caption = Text(f"stopped: {run.stopped_by}")
    return table


def _rows(report: Report | PipelineReport) -> list[tuple[str | int, ...]]:
    """Return a row of counts for each step, in the order of the headings."""
    if isinstance(report, Report):
        fates = (report.completed, 0, report.failed, report.diverted, report.cancelled)
        return [("operations", report.working, *fates, report.retried)]
    return [
        (
            step.name,
            step.in_flight,
            step.completed,
            step.discarded,
            step.failed,
            step.diverted,
            step.cancelled,
            step.retried,
        )
        for step in report.steps
    ]
