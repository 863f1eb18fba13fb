"""``turnstile simulate``: adaptive policies against simulated services."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

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
from trio_turnstile.simulation import SCENARIOS, Result, Scenario
from trio_turnstile.simulation import simulate as play

from ._arguments import UsageError
from ._simulation_plot import draw, open_figure
from ._simulation_tables import ComparisonTable, FigureTable

PolicyName: TypeAlias = Literal["knee", "aimd", "vegas", "gradient2", "vector"]

POLICIES: Mapping[PolicyName, Callable[[Scenario], LimitPolicy]] = {
    "knee": lambda scenario: KneeLimit(scenario.initial),
    "aimd": lambda scenario: Windowed(AIMDLimit(scenario.initial, minimum=1)),
    "vegas": lambda scenario: Windowed(VegasLimit(scenario.initial, maximum=200)),
    "gradient2": lambda scenario: Windowed(
        Gradient2Limit(scenario.initial, minimum=1, maximum=200)
    ),
    "vector": lambda scenario: VectorLimit(),
}
"""The policies with the constants of their sources, except that the limit may go down to 1."""


def simulate(
    *,
    policy: Literal[PolicyName, "all"] = "knee",
    scenario: str = "all",
    seeds: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    plot: Path | None = None,
) -> None:
    """Try adaptive limits on simulated services, and compare them with an oracle.

    The oracle knows the capacity of the service at every moment. The simulation calls no
    real service, does not wait in real time, and gives the same figures for the same seeds.
    The table shows the worst seed of each scenario: the throughput as % of the oracle's, the
    99th percentile of latency divided by the oracle's, the share of calls that were refused
    or timed out, the seconds until the limit is right after each change of the capacity, and
    a score from 0 to 100. The overall score is the geometric mean over A to H and J.

    For example:

        turnstile simulate --scenario B,H --plot limits.png

    Args:
      policy: The policy to try. "all" compares all policies.
      scenario: The letters of the scenarios, separated by commas. "all" plays A to P.
      seeds: How many times to play each scenario, each time with other random numbers.
      plot: Draw the limit and the capacity over time, for the first seed, to this file.
        The extension of its name selects the format. This needs the extra "plot".
    """
    scenarios = _select(scenario)
    names: Sequence[PolicyName] = tuple(POLICIES) if policy == "all" else (policy,)
    figure = None if plot is None else open_figure(plot)
    table = FigureTable() if len(names) == 1 else ComparisonTable(names)
    table.begin(seeds)
    runs: dict[str, dict[Scenario, list[Result]]] = {name: {} for name in names}
    for each in scenarios:
        for name in names:
            runs[name][each] = _play(POLICIES[name], each, seeds)
        table.row(each, [runs[name][each] for name in names])
    table.end(list(runs.values()))
    if figure is not None and plot is not None:
        draw(figure, scenarios, runs)
        figure.savefig(plot)


def _select(letters: str) -> Sequence[Scenario]:
    known = {scenario.name[0]: scenario for scenario in SCENARIOS}
    if letters == "all":
        return SCENARIOS
    try:
        return [known[letter] for letter in dict.fromkeys(letters.upper().split(","))]
    except KeyError as error:
        raise UsageError(
            f"--scenario: there is no {error.args[0]!r}; "
            f"give letters from {min(known)} to {max(known)}, separated by commas, or all"
        ) from None


def _play(make: Callable[[Scenario], LimitPolicy], scenario: Scenario, seeds: int) -> list[Result]:
    """Play a scenario with seeds from 1. Only the first result keeps its trace, for the plot."""
    return [
        _trimmed(play(make(scenario), scenario, seed=seed), keep_trace=seed == 1)
        for seed in range(1, seeds + 1)
    ]


def _trimmed(result: Result, *, keep_trace: bool) -> Result:
    # The books of hundreds of runs would fill the memory, and the tables do not need them.
    return attrs.evolve(result, books=(), trace=result.trace if keep_trace else ())
