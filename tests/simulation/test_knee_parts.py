"""For each part of `KneeLimit` a service that needs it: a bound holds with the part only.

The overall scores of many services hardly show some of the parts (`benchmarks.ablation`), because
each part is for one kind of service. These tests show which kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from statistics import fmean
from typing import TypeAlias

import attrs
import pytest

from benchmarks.ablation import PARTS, without
from benchmarks.policies import resized, service
from trio_turnstile.limits import KneeLimit
from trio_turnstile.simulation import (
    COLLAPSE,
    HALVED,
    QUOTA,
    SLOWER,
    STALL,
    Scenario,
    Server,
    Steps,
    simulate,
)

pytestmark = pytest.mark.slow

Figure: TypeAlias = Callable[[], float]
"""A figure of a simulated run, where a greater one is better."""


def score(scenario: Scenario, *seeds: int) -> float:
    """The mean score over some seeds."""
    return fmean(simulate(KneeLimit(), scenario, seed=seed).score for seed in seeds)


def held_out(number: int) -> float:
    """The score on a random service that took no part in the tuning."""
    return score(service(number), number)


def room_left_by_a_stall(seed: int) -> float:
    """How far the limit falls within 2 s when all but two of 40 workers stop."""
    server = Server(workers=Steps(40, ((20, 2),)))
    trace = simulate(KneeLimit(), Scenario(name="", server=server, duration=25.0), seed=seed).trace
    return 40 - min(point.limits[0] for point in trace if 20 < point.time < 22)


def promptness_in_a_stall(seed: int) -> float:
    """The seconds until the limit is right after nearly all workers stop, negated."""
    (_, settled, *_) = simulate(KneeLimit(), attrs.evolve(STALL, duration=75.0), seed=seed).settled
    return -math.inf if settled is None else -settled


def shared(scenario: Scenario) -> Scenario:
    """The same service, but all calls share the workers."""
    return attrs.evolve(scenario, server=attrs.evolve(scenario.server, shared=True))


NEEDS: dict[str, tuple[Figure, float]] = {
    # Eight workers become four, and eight again.
    "jumps of the knee": (partial(score, resized(HALVED, 8, 0.1), 1), 88),
    # Eight workers take twice as long, and half again.
    "jumps of the time": (partial(score, resized(SLOWER, 8, 0.1), 2), 85),
    # Three workers that become one, and calls of two kinds.
    "Huber's estimate": (partial(held_out, 1019), 75),
    # Four workers of 17 ms that take twice as long, and calls of two kinds.
    "skew": (partial(held_out, 1004), 75),
    # A quota of 8 that becomes 4 and 8 again: without tests, the limit stays at 4.
    "re-testing of the refused limit": (partial(score, resized(QUOTA, 8, 0.1), 1), 90),
    # Two workers that collapse under 20 calls, so that all calls time out.
    "deep cut on slow refusals": (partial(score, resized(COLLAPSE, 2, 0.1), 11), 75),
    # A quota of 12 that becomes 6, and calls of two kinds.
    "counted readings": (partial(held_out, 1013), 87),
    "scatter raises home": (partial(held_out, 1013), 83),
    # If probes up are too short to be distinguished from chance, the knee stays in doubt.
    "clear of chance": (partial(promptness_in_a_stall, 5), -2),
    "stall detector": (partial(room_left_by_a_stall, 3), 35),
    # Shared workers have no line: a queue slows all calls down.
    "learned slope": (partial(score, shared(resized(HALVED, 8, 0.1)), 2), 80),
    # Two workers in a line: too few calls for the latency to show the queue.
    "order of completions": (partial(score, resized(COLLAPSE, 2, 0.1), 12), 75),
}
"""For each part, a figure and the bound that it reaches only with the part."""


def test_every_part_has_its_service() -> None:
    """A part that can be removed has a service here that needs it.

    The one exception only makes the estimate of the latency a little more exact.
    """
    assert set(NEEDS) == set(PARTS) - {"nine of ten Huber steps"}


@pytest.mark.parametrize("part", NEEDS)
def test_a_part_is_needed(part: str) -> None:
    """The figure reaches the bound with the part, and does not reach it without."""
    figure, bound = NEEDS[part]
    assert figure() >= bound
    with without(part):
        assert figure() < bound
