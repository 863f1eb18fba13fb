"""``turnstile simulate``: adaptive policies against services that exist only in numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, final

import attrs
from cyclopts import Parameter
from cyclopts.validators import Number

from trio_turnstile.limits import (
    AIMDLimit,
    Gradient2Limit,
    KneeLimit,
    LimitPolicy,
    VectorLimit,
    VegasLimit,
    Windowed,
)
from trio_turnstile.simulation import GATE, SCENARIOS, Result, Scenario, TracePoint, overall
from trio_turnstile.simulation import simulate as play

from ._options import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Name: TypeAlias = Literal["knee", "aimd", "vegas", "gradient2", "vector"]

POLICIES: Mapping[Name, Callable[[Scenario], LimitPolicy]] = {
    "knee": lambda scenario: KneeLimit(scenario.initial),
    "aimd": lambda scenario: Windowed(AIMDLimit(scenario.initial, minimum=1)),
    "vegas": lambda scenario: Windowed(VegasLimit(scenario.initial, maximum=200)),
    "gradient2": lambda scenario: Windowed(
        Gradient2Limit(scenario.initial, minimum=1, maximum=200)
    ),
    "vector": lambda scenario: VectorLimit(),
}
"""Each as its source has it, but free to go down to 1 where the source stops at 20."""

Runs: TypeAlias = Mapping[str, Sequence[Result]]
"""The runs of one policy, one for each seed, by the letter of the scenario."""


def simulate(
    *,
    policy: Literal[Name, "all"] = "knee",
    scenario: str = "all",
    seeds: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    plot: Path | None = None,
) -> int:
    """Try adaptive policies on simulated services, beside an oracle that knows the capacity.

    Nothing real is called or waited for, and the same seeds give the same figures. Each
    figure is that of the worst seed: throughput in % of the oracle's, the 99th percentile
    of latency over the oracle's, calls refused or timed out, the seconds until the limit
    is right after each change of the capacity, and a score from 0 to 100. Overall is the
    geometric mean of the scores in A to H and J.

    The exit status is 1 if knee misses a figure that it is meant to reach, else 0.

    For example:

        turnstile simulate --scenario B,H --plot limits.png

    Args:
      policy: The policy to try; all compares them.
      scenario: Letters of the scenarios, with commas between them; all for all of A to N.
      seeds: How many times to play each scenario, with other random numbers each time.
      plot: Draw the limit and the capacity over time, for the first seed, to this file;
        its extension says in which format. It needs the extra plot.
    """
    scenarios = _chosen(scenario)
    names: Sequence[Name] = tuple(POLICIES) if policy == "all" else (policy,)
    figure = None if plot is None else _open_figure(plot)
    runs: dict[Name, dict[str, list[Result]]] = {name: {} for name in names}
    table = _Figures() if len(names) == 1 else _Comparison(names)
    table.begin(seeds)
    for each in scenarios:
        for name in names:
            runs[name][_letter(each)] = [
                _light(play(POLICIES[name](each), each, seed=seed), plotted=seed == 1)
                for seed in range(1, seeds + 1)
            ]
        table.row(each, [runs[name][_letter(each)] for name in names])
    table.end([_scored(runs[name]) for name in names])
    if figure is not None and plot is not None:
        _draw(figure, scenarios, runs)
        figure.savefig(plot)
    return 0 if "knee" not in names or _passes(runs["knee"]) else 1


# ---- what is asked ----


def _letter(scenario: Scenario) -> str:
    return scenario.name[0]


def _chosen(letters: str) -> Sequence[Scenario]:
    known = {_letter(scenario): scenario for scenario in SCENARIOS}
    if letters == "all":
        return SCENARIOS
    try:
        return [known[letter] for letter in dict.fromkeys(letters.upper().split(","))]
    except KeyError as error:
        raise UsageError(
            f"--scenario: there is no {error.args[0]!r}; "
            f"give letters from {min(known)} to {max(known)}, with commas between them, or all"
        ) from None


def _light(result: Result, *, plotted: bool) -> Result:
    """The figures alone: the books of hundreds of runs would fill the memory."""
    return attrs.evolve(result, books=(), trace=result.trace if plotted else ())


# ---- figures: that of the worst seed ----


def _throughput(results: Sequence[Result]) -> float:
    return min(result.throughput for result in results)


def _p99(results: Sequence[Result]) -> float:
    return max(result.p99_ratio for result in results)


def _refused(results: Sequence[Result]) -> float:
    return max(result.rejected for result in results)


def _score(results: Sequence[Result]) -> float:
    return min(result.score for result in results)


def _fairness(results: Sequence[Result]) -> float:
    return min(result.fairness for result in results)


def _settled(change: int) -> Callable[[Sequence[Result]], float]:
    def settled(results: Sequence[Result]) -> float:
        times = (result.settled[change] for result in results)
        return max(math.inf if time is None else time for time in times)

    return settled


def _scored(runs: Runs) -> Sequence[Result]:
    """The runs that count for the overall score, of all seeds."""
    letters = {_letter(scenario) for scenario in GATE}
    return [result for letter in runs if letter in letters for result in runs[letter]]


# ---- tables ----


@final
class _Figures:
    """The table of one policy: a row of figures for each scenario."""

    def begin(self, seeds: int) -> None:
        print(f"{_worst_of(seeds):<24} throughput    p99  refused  score  settled, s")

    def row(self, scenario: Scenario, columns: Sequence[Sequence[Result]]) -> None:
        (results,) = columns
        settled = (_settled(change)(results) for change in range(len(scenario.changes)))
        print(
            f"{scenario.name:<24} {_throughput(results):>10.1%} {_p99(results):>6.2f}"
            f" {_refused(results):>8.1%} {_score(results):>6.1f}"
            f"  {', '.join(map(_seconds, settled))}",
            flush=True,
        )

    def end(self, scored: Sequence[Sequence[Result]]) -> None:
        for results in filter(None, scored):
            print(f"score: overall {overall(results):.1f}, worst {_score(results):.1f}")


@final
class _Comparison:
    """The table of several policies: a column for each."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def begin(self, seeds: int) -> None:
        print("throughput in % of the oracle's / p99 over the oracle's, and -N for N % refused")
        self._print(_worst_of(seeds), self._names)

    def row(self, scenario: Scenario, columns: Sequence[Sequence[Result]]) -> None:
        self._print(scenario.name, map(self._cell, columns))

    def end(self, scored: Sequence[Sequence[Result]]) -> None:
        if all(scored):
            self._print("score: overall", (f"{overall(results):.1f}" for results in scored))
            self._print("score: worst", (f"{_score(results):.1f}" for results in scored))

    @staticmethod
    def _print(head: str, cells: Iterable[str]) -> None:
        line = "".join(f" {cell:<13}" for cell in cells)
        print(f"{head:<24}{line}".rstrip(), flush=True)

    @staticmethod
    def _cell(results: Sequence[Result]) -> str:
        refused = f" -{100 * _refused(results):.0f}" if _refused(results) >= 0.005 else ""
        return f"{100 * _throughput(results):.0f}/{_p99(results):.2f}{refused}"


def _worst_of(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"worst of {seeds} seeds"


def _seconds(time: float) -> str:
    return "never" if time == math.inf else f"{time:.1f}"


# ---- what knee is meant to reach ----


@final
@attrs.frozen
class _Goal:
    """A bound for a figure, in some scenarios."""

    figure: str
    letters: str
    worst: Callable[[Sequence[Result]], float]
    sign: Literal[">=", "<="]
    bound: float
    shown: str = "{:.1%}"

    def check(self, runs: Runs) -> bool:
        """Print whether it is reached; if none of its scenarios was played, it is."""
        played = [letter for letter in self.letters if letter in runs]
        if not played:
            return True
        values = [self.worst(runs[letter]) for letter in played]
        value = min(values) if self.sign == ">=" else max(values)
        return self.judge(f"{self.figure} in {' '.join(played)}", value)

    def judge(self, what: str, value: float) -> bool:
        """Print whether a value reaches it."""
        reached = value >= self.bound if self.sign == ">=" else value <= self.bound
        mark, bound = "ok" if reached else "MISSED", self.shown.format(self.bound)
        print(f"{mark:<6}  {what}: {self.shown.format(value)}, meant to be {self.sign} {bound}")
        return reached


_GOALS = (
    _Goal("throughput", "ABCEFG", _throughput, ">=", 0.95),
    _Goal("throughput", "DHJ", _throughput, ">=", 0.90),
    _Goal("p99", "ABCDEFG", _p99, "<=", 1.25, "{:.2f}"),
    _Goal("p99", "H", _p99, "<=", 2.0, "{:.2f}"),
    _Goal("refused", "D", _refused, "<=", 0.03),
    _Goal("settled after halving", "B", _settled(1), "<=", 5, "{:.1f} s"),
    _Goal("settled after doubling", "B", _settled(2), "<=", 8, "{:.1f} s"),
    _Goal("settled from 1 to 100", "J", _settled(0), "<=", 8, "{:.1f} s"),
    _Goal("Jain's index", "I", _fairness, ">=", 0.95, "{:.3f}"),
    _Goal("score", "ABCDEFGHJ", _score, ">=", 70, "{:.1f}"),
)
_OVERALL = _Goal("score", "", overall, ">=", 90, "{:.1f}")


def _passes(runs: Runs) -> bool:
    print("\nknee:")
    reached = [goal.check(runs) for goal in _GOALS]
    if all(_letter(scenario) in runs for scenario in GATE):
        reached.append(_OVERALL.judge("score overall", overall(_scored(runs))))
    return all(reached)


# ---- the plot ----


def _open_figure(path: Path) -> Figure:
    """Find out that it cannot be drawn before all is simulated, and not after."""
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


def _draw(
    figure: Figure,
    scenarios: Sequence[Scenario],
    runs: Mapping[Name, Mapping[str, Sequence[Result]]],
) -> None:
    columns = 1 if len(scenarios) == 1 else 2
    rows = -(-len(scenarios) // columns)
    figure.set_size_inches(4.5 * columns if columns > 1 else 7, 2.2 * rows + 0.6)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, scenario in zip(grid, scenarios, strict=False):
        _draw_one(axes, scenario, {name: runs[name][_letter(scenario)][0] for name in runs})
    for axes in grid[len(scenarios) :]:
        axes.remove()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)


def _draw_one(axes: Axes, scenario: Scenario, results: Mapping[Name, Result]) -> None:
    trace = next(iter(results.values())).trace
    times = [point.time for point in trace]
    capacity = [point.capacity for point in trace]
    axes.fill_between(times, capacity, step="post", color="0.85", label="capacity")
    for name, result in results.items():
        limits = [_limit(scenario, point) for point in result.trace]
        axes.step(times, limits, where="post", linewidth=1, label=f"{name}: limit")
    axes.set_title(scenario.name, fontsize="medium")
    axes.set_xlim(0, scenario.duration)
    axes.set_ylim(0, 2 * max(capacity))
    axes.set_xlabel("seconds", fontsize="small")


def _limit(scenario: Scenario, point: TracePoint) -> float:
    """The limits of all clients that are there, together."""
    there = (client.joins <= point.time for client in scenario.clients)
    return sum(compress(point.limits, there))
