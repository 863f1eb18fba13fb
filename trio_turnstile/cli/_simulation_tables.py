"""The tables of ``turnstile simulate``: one policy in detail, or several side by side.

Every figure is for the worst seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, final

from trio_turnstile.simulation import GATE, Result, Scenario, overall

Runs: TypeAlias = Mapping[Scenario, Sequence[Result]]
"""The results of one policy by scenario, one result for each seed."""


@final
class FigureTable:
    """The table of one policy: a row of figures for each scenario."""

    def begin(self, seeds: int) -> None:
        """Print the header."""
        print(f"{_worst_of(seeds):<24} throughput    p99  refused  score  settled, s")

    def row(self, scenario: Scenario, columns: Sequence[Sequence[Result]]) -> None:
        """Print the row of a scenario; there is one column."""
        (results,) = columns
        settled = (_settled(results, change) for change in range(len(scenario.changes)))
        print(
            f"{scenario.name:<24} {_throughput(results):>10.1%} {_p99(results):>6.2f}"
            f" {_refused(results):>8.1%} {_score(results):>6.1f}"
            f"  {', '.join(map(_seconds, settled))}",
            flush=True,
        )

    def end(self, columns: Sequence[Runs]) -> None:
        """Print the scores over all scenarios, if any of these counts towards the score."""
        for results in filter(None, map(_scored, columns)):
            print(f"score: overall {overall(results):.1f}, worst {_score(results):.1f}")


@final
class ComparisonTable:
    """The table of several policies: a column for each of them.

    Args:
      names: the heads of the columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def begin(self, seeds: int) -> None:
        """Print the header."""
        print("throughput in % of the oracle's / p99 over the oracle's, and -N for N % refused")
        self._print(_worst_of(seeds), self._names)

    def row(self, scenario: Scenario, columns: Sequence[Sequence[Result]]) -> None:
        """Print the row of a scenario, from the results of each policy."""
        self._print(scenario.name, map(self._cell, columns))

    def end(self, columns: Sequence[Runs]) -> None:
        """Print the scores over all scenarios, if any of these counts towards the score."""
        scored = [_scored(runs) for runs in columns]
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


def _throughput(results: Sequence[Result]) -> float:
    return min(result.throughput for result in results)


def _p99(results: Sequence[Result]) -> float:
    return max(result.p99_ratio for result in results)


def _refused(results: Sequence[Result]) -> float:
    return max(result.rejected for result in results)


def _score(results: Sequence[Result]) -> float:
    return min(result.score for result in results)


def _settled(results: Sequence[Result], change: int) -> float:
    times = (result.settled[change] for result in results)
    return max(math.inf if time is None else time for time in times)


def _scored(runs: Runs) -> Sequence[Result]:
    """Return the results that count towards the overall score."""
    return [result for scenario in GATE if scenario in runs for result in runs[scenario]]


def _worst_of(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"worst of {seeds} seeds"


def _seconds(time: float) -> str:
    return "never" if time == math.inf else f"{time:.1f}"
