"""Tries a policy on a simulated service before it meets a real one.

>>> from trio_turnstile.limits import KneeLimit
>>> from trio_turnstile.simulation import Scenario, Server, Steps, simulate
>>> database = Server(workers=Steps(12, ((30, 6),)), service_time=0.02)
>>> mine = Scenario(name="my database", server=database)
>>> result = simulate(KneeLimit(initial=4), mine, seed=1)
>>> result.throughput > 0.8
True
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import lru_cache
from typing import final

from trio_turnstile.limits._protocol import LimitPolicy, Sample

from ._engine import Run, play
from ._scenarios import Scenario
from ._scores import Result, assess


def simulate(policy: LimitPolicy, scenario: Scenario, *, seed: int) -> Result:
    """Play a scenario on virtual time, and compare the policy with an oracle.

    It waits for nothing real, and all its randomness comes from the seed, so the same
    arguments give the same result.

    Args:
      policy: the policy to try. Each client uses a deep copy; the policy itself does not
        change.
      scenario: the service and its callers; one of `SCENARIOS` or your own.
      seed: the seed of service times, arrivals and errors.

    Returns:
      The figures, relative to an oracle that always sets the limit to the true capacity (or
      to its fair share of that, with several clients), and a trace to plot.
    """
    run = play(scenario, [copy.deepcopy(policy) for _ in scenario.clients], seed)
    return assess(scenario, run, _ideal(scenario, seed))


@lru_cache(maxsize=64)
def _ideal(scenario: Scenario, seed: int) -> Run:
    return play(scenario, [Oracle(scenario) for _ in scenario.clients], seed)


@final
class Oracle(LimitPolicy):
    """A policy that knows the capacity, and shares it fairly with the clients present.

    Args:
      scenario: what is simulated.
      late: how old its knowledge of the capacity is, in seconds.
    """

    def __init__(self, scenario: Scenario, late: float = 0.0) -> None:
        self._scenario = scenario
        self._late = late
        self._limit = 0.0
        self.on_tick(0.0, 0, 0)

    @property
    def limit(self) -> float:
        return self._limit

    def on_finish(self, sample: Sample) -> None:
        pass

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        present = sum(client.joins <= now for client in self._scenario.clients)
        known = self._scenario.server.capacity(max(0.0, now - self._late))
        self._limit = max(1.0, known / max(1, present))

    def why(self) -> Mapping[str, object]:
        return {"reason": "oracle"}
