"""The plot of ``turnstile simulate``: limits over the capacity. It needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

from trio_turnstile.simulation import Result, Scenario, TracePoint

from ._arguments import UsageError
from ._simulation_tables import Runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def open_figure(path: Path) -> Figure:
    """Return an empty figure, after checking that it can be drawn and written to ``path``.

    Call this before the simulation, which may take minutes.

    Raises:
      UsageError: if matplotlib is missing, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise UsageError(
            "--plot: matplotlib is missing; pip install 'trio-turnstile[plot]'"
        ) from None
    figure = Figure(layout="constrained")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in formats:
        raise UsageError(f"--plot: {str(path)!r} must end with one of {', '.join(sorted(formats))}")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"--plot: cannot write to {str(path.parent)!r}")
    return figure


def draw(figure: Figure, scenarios: Sequence[Scenario], runs: Mapping[str, Runs]) -> None:
    """Draw a panel for each scenario, from the first result of each policy."""
    columns = 1 if len(scenarios) == 1 else 2
    rows = -(-len(scenarios) // columns)
    figure.set_size_inches(4.5 * columns if columns > 1 else 7, 2.2 * rows + 0.6)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, scenario in zip(grid, scenarios, strict=False):
        _draw_panel(axes, scenario, {name: runs[name][scenario][0] for name in runs})
    for axes in grid[len(scenarios) :]:
        axes.remove()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)


def _draw_panel(axes: Axes, scenario: Scenario, results: Mapping[str, Result]) -> None:
    trace = next(iter(results.values())).trace
    times = [point.time for point in trace]
    capacity = [point.capacity for point in trace]
    axes.fill_between(times, capacity, step="post", color="0.85", label="capacity")
    for name, result in results.items():
        limits = [_joint_limit(scenario, point) for point in result.trace]
        axes.step(times, limits, where="post", linewidth=1, label=f"{name}: limit")
    axes.set_title(scenario.name, fontsize="medium")
    axes.set_xlim(0, scenario.duration)
    axes.set_ylim(0, 2 * max(capacity))
    axes.set_xlabel("seconds", fontsize="small")


def _joint_limit(scenario: Scenario, point: TracePoint) -> float:
    """Return the sum of the limits of all clients that have joined."""
    joined = (client.joins <= point.time for client in scenario.clients)
    return sum(compress(point.limits, joined))
