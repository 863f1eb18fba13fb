"""The figures that `KneeLimit` must reach with its defaults, and its lead over other policies."""

from __future__ import annotations

from collections.abc import Callable
from statistics import geometric_mean
from typing import TypeAlias

import pytest

from benchmarks.policies import HELD_OUT, Make, policies, resized, service
from trio_turnstile.limits import KneeLimit
from trio_turnstile.simulation import (
    COLD_START,
    COLLAPSE,
    GATE,
    HALVED,
    HEAVY_TAIL,
    OPEN,
    QUOTA,
    SLOWER,
    STALL,
    STEADY,
    TWO_CLIENTS,
    Result,
    Scenario,
    overall,
    simulate,
)

pytestmark = pytest.mark.slow

SEEDS = (1, 2, 3, 4, 5)
OTHERS = {name: make for name, make in policies(200).items() if name != "Knee"}
PERFECT = 105.0
"""More than any policy scores: the oracle has 100, and chance adds only a little."""
Knee: TypeAlias = Callable[[Scenario, int], Result]
every_seed = pytest.mark.parametrize("seed", SEEDS)


@every_seed
@pytest.mark.parametrize(
    "scenario", [STEADY, HALVED, SLOWER, HEAVY_TAIL, OPEN, COLLAPSE], ids=lambda s: s.name
)
def test_throughput_95(knee: Knee, scenario: Scenario, seed: int) -> None:
    """The throughput is at least 95 % of the oracle's."""
    assert knee(scenario, seed).throughput >= 0.95


@every_seed
@pytest.mark.parametrize("scenario", [QUOTA, STALL, COLD_START], ids=lambda s: s.name)
def test_throughput_90(knee: Knee, scenario: Scenario, seed: int) -> None:
    """With a quota, a stall or a cold start, the throughput is at least 90 % of the oracle's."""
    assert knee(scenario, seed).throughput >= 0.90


@every_seed
@pytest.mark.parametrize(
    "scenario", [s for s in GATE if s not in (STALL, COLD_START)], ids=lambda s: s.name
)
def test_latency(knee: Knee, scenario: Scenario, seed: int) -> None:
    """The 99th percentile is at most 1.25 times the oracle's."""
    assert knee(scenario, seed).p99_ratio <= 1.25


@every_seed
def test_latency_of_a_stall(knee: Knee, seed: int) -> None:
    """In a stall, the 99th percentile is at most twice the oracle's."""
    assert knee(STALL, seed).p99_ratio <= 2.0


@every_seed
def test_refusals_by_a_quota(knee: Knee, seed: int) -> None:
    """A quota refuses at most 3 % of the calls."""
    assert knee(QUOTA, seed).rejected <= 0.03


@every_seed
def test_settling(knee: Knee, seed: int) -> None:
    """The limit settles in 5 s if the capacity halves, 8 s if it doubles, and 8 s from 1 to 100."""
    _, halved, doubled = knee(HALVED, seed).settled
    (cold,) = knee(COLD_START, seed).settled
    assert halved is not None
    assert halved <= 5
    assert doubled is not None
    assert doubled <= 8
    assert cold is not None
    assert cold <= 8


@every_seed
def test_finds_more_capacity_soon(knee: Knee, seed: int) -> None:
    """Probes up come often enough: the limit settles 3 s after 20 workers become 40."""
    doubled = knee(HALVED, seed).settled[2]
    assert doubled is not None
    assert doubled <= 3


@every_seed
def test_fairness(knee: Knee, seed: int) -> None:
    """Two clients share one service fairly, from 20 s after the second joined."""
    assert knee(TWO_CLIENTS, seed).fairness >= 0.95


def test_score(knee: Knee) -> None:
    """The score is at least 90 overall, and 70 in the worst scenario of the worst seed."""
    results = [knee(scenario, seed) for scenario in GATE for seed in SEEDS]
    assert overall(results) >= 90
    assert min(result.score for result in results) >= 70


@every_seed
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_leads_the_table(knee: Knee, make: Make, seed: int) -> None:
    """No other policy scores higher, either overall or in its worst scenario."""
    ours = [knee(scenario, seed) for scenario in GATE]
    best, worst = overall(ours), min(result.score for result in ours)
    scores = list[float]()
    for scenario in sorted(GATE, key=lambda s: s.duration):
        scores.append(max(1e-9, simulate(make(scenario.initial), scenario, seed=seed).score))
        unplayed = len(GATE) - len(scores)
        if min(scores) < worst and geometric_mean(scores + unplayed * [PERFECT]) < best:
            return  # it can no longer catch up
    pytest.fail(f"{scores} against {best} overall and {worst} at worst")


@pytest.mark.parametrize(
    ("workers", "seconds", "asked"),
    [(2, 0.1, 92), (4, 0.005, 93), (8, 1.0, 95), (100, 0.1, 96)],
)
def test_other_sizes(workers: int, seconds: float, asked: float) -> None:
    """Other numbers of workers, calls of 5 ms or 1 s, and another seed give good scores, too."""
    asks = (STEADY, HALVED, SLOWER, QUOTA, HEAVY_TAIL, COLLAPSE)
    results = [
        simulate(KneeLimit(), resized(scenario, workers, seconds), seed=11) for scenario in asks
    ]
    assert overall(results) >= asked
    assert min(result.score for result in results) >= 85


def test_services_held_out() -> None:
    """Random services that took no part in the tuning reach their scores."""
    numbers = HELD_OUT[:24]
    results = [simulate(KneeLimit(), service(number), seed=number) for number in numbers]
    assert overall(results) >= 92
    assert min(result.score for result in results) >= 70
