"""The figures that `KneeLimit` must reach before a release: ``python -m benchmarks.goals``.

It prints each goal with the figure of the worst seed, and exits with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import attrs

from trio_turnstile.limits import KneeLimit
from trio_turnstile.simulation import GATE, SCENARIOS, Result, Scenario, overall, simulate

Runs: TypeAlias = Mapping[str, Sequence[Result]]
"""A result for each seed, by the letter of the scenario."""


@attrs.frozen
class Goal:
    """A bound for a figure, in some scenarios."""

    name: str
    letters: str
    figure: Callable[[Result], float]
    sign: Literal[">=", "<="]
    bound: float
    format: str = "{:.1%}"

    def check(self, runs: Runs) -> bool:
        """Print whether every run reaches the goal; without a run, the goal is reached."""
        played = [letter for letter in self.letters if letter in runs]
        values = [self.figure(result) for letter in played for result in runs[letter]]
        if not values:
            return True
        worst = min(values) if self.sign == ">=" else max(values)
        return self.judge(f"{self.name} in {' '.join(played)}", worst)

    def judge(self, what: str, value: float) -> bool:
        """Print whether a value reaches the goal."""
        reached = value >= self.bound if self.sign == ">=" else value <= self.bound
        mark, bound = "ok" if reached else "MISSED", self.format.format(self.bound)
        print(f"{mark:<6}  {what}: {self.format.format(value)}, the goal is {self.sign} {bound}")
        return reached


def throughput(result: Result) -> float:
    return result.throughput


def p99(result: Result) -> float:
    return result.p99_ratio


def settled(change: int) -> Callable[[Result], float]:
    """Return a figure: the seconds after a change until the limit was right."""

    def seconds(result: Result) -> float:
        time = result.settled[change]
        return math.inf if time is None else time

    return seconds


GOALS = (
    Goal("throughput", "ABCEFG", throughput, ">=", 0.95),
    Goal("throughput", "DHJ", throughput, ">=", 0.90),
    Goal("p99", "ABCDEFG", p99, "<=", 1.25, "{:.2f}"),
    Goal("p99", "H", p99, "<=", 2.0, "{:.2f}"),
    Goal("refused", "D", lambda result: result.rejected, "<=", 0.03),
    Goal("settled after halving", "B", settled(1), "<=", 5, "{:.1f} s"),
    Goal("settled after doubling", "B", settled(2), "<=", 8, "{:.1f} s"),
    Goal("settled from 1 to 100", "J", settled(0), "<=", 8, "{:.1f} s"),
    Goal("Jain's index", "I", lambda result: result.fairness, ">=", 0.95, "{:.3f}"),
    Goal("score", "ABCDEFGHJ", lambda result: result.score, ">=", 70, "{:.1f}"),
)
OVERALL = attrs.evolve(GOALS[-1], bound=90)
"""The goal for the score of all runs together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the scenarios and print the goals; return the exit status."""
    options = _parse(arguments)
    seeds = range(1, options.seeds + 1)
    runs = {
        scenario.name[0]: [_play(scenario, seed) for seed in seeds]
        for scenario in SCENARIOS
        if scenario.name[0] in options.scenarios
    }
    reached = [goal.check(runs) for goal in GOALS]
    gate = [scenario.name[0] for scenario in GATE]
    if all(letter in runs for letter in gate):
        score = overall([result for letter in gate for result in runs[letter]])
        reached.append(OVERALL.judge("score overall", score))
    return 0 if all(reached) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    letters = "".join(scenario.name[0] for scenario in SCENARIOS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.goals", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument(
        "--scenarios", default=letters, metavar="LETTERS", help=f"default: {letters}"
    )
    return parser.parse_args(arguments)


def _play(scenario: Scenario, seed: int) -> Result:
    result = simulate(KneeLimit(scenario.initial), scenario, seed=seed)
    return attrs.evolve(result, books=(), trace=())  # they would fill the memory


if __name__ == "__main__":
    sys.exit(main())
