"""How much each part of `KneeLimit` contributes: ``python -m benchmarks.ablation [NAME...]``.

It removes one part at a time and prints the overall score and the worst score on the services of
the gate, on small services, and on services held out from the tuning. The scores come from only a
few seeds, and some parts exist for one kind of service that is not among these services.
``tests/simulation/test_knee_parts.py`` shows for each part a service that needs it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import fmean, pstdev
from typing import Any, TypeAlias
from unittest.mock import patch

from trio_turnstile.limits import KneeLimit
from trio_turnstile.limits._knee import belief, latency, meter, policy, refusals, stall
from trio_turnstile.simulation import (
    COLLAPSE,
    GATE,
    HALVED,
    HEAVY_TAIL,
    QUOTA,
    SLOWER,
    STEADY,
    Result,
    overall,
    simulate,
)

from .policies import HELD_OUT, resized, service

Change: TypeAlias = tuple[object, str, object]
"""An object, the name of one of its attributes, and the value that removes a part."""


def _mean_in_place_of_huber(self: latency.LatencyEstimator, latencies: Sequence[float]) -> float:
    mean = fmean(latencies)
    if len(latencies) > 1 and mean:
        cv = pstdev(latencies) / mean
        self.cv, self.error = self._smoothed(self.cv, cv), self._smoothed(self.error, cv)
        self.skew, self._guessed = 1.0, False
    return mean


def _update_without_skew(
    update: Callable[..., None], self: belief.Belief, *args: float, **kwargs: float
) -> None:
    update(self, *args, **(kwargs | {"skew": 1.0}))


def _peek_without_chance(self: KneeLimit, knee: float, reading: meter.Reading) -> float:
    """Bound the deepest probe upwards, though it may be too small to distinguish from chance."""
    if round(knee) <= self._limit:
        return knee
    return min(knee, self._up_by(policy.MAX_PROBE_UP_LOG))


def _method(function: Callable[..., Any], *bound: object) -> Callable[..., Any]:
    """Return a plain function, which becomes a method when it is assigned to a class."""
    return lambda self, *args, **kwargs: function(*bound, self, *args, **kwargs)


PARTS: Mapping[str, Sequence[Change]] = {
    "jumps of the knee": [(belief, "KNEE_JUMP_RATE", 1e-9)],
    "jumps of the time": [(belief, "TIME_JUMP_RATE", 1e-9)],
    "Huber's estimate": [
        (latency.LatencyEstimator, "update", _method(_mean_in_place_of_huber)),
    ],
    "skew": [(belief.Belief, "update", _method(_update_without_skew, belief.Belief.update))],
    "re-testing of the refused limit": [
        (refusals.RefusalBracket, "is_due", lambda self, now: False)
    ],
    "deep cut on slow refusals": [(policy, "SLOW_CUT_FACTOR", refusals.CUT_FACTOR)],
    "counted readings": [(meter.Reading, "counted", lambda self, former: self)],
    "scatter raises home": [(policy, "HOME_TAIL_PER_CV", 0.0)],
    "nine of ten Huber steps": [(latency, "HUBER_STEPS", 1)],
    "clear of chance": [(KneeLimit, "_peek", _method(_peek_without_chance))],
    "stall detector": [(stall.StallDetector, "missing", lambda self, *args: 0.0)],
    "learned slope": [(belief, "SLOPE_SD", 1e-6)],
    "order of completions": [(belief.Belief, "update_order", lambda self, *args: None)],
}
"""The changes that remove a part of `KneeLimit`, by the name of the part."""

SMALL = ((2, 0.1), (4, 0.005), (8, 1.0))
"""Workers and seconds per call of the small services."""


@contextmanager
def without(part: str) -> Iterator[None]:
    """Remove a part of `KneeLimit` for the duration of a ``with`` block."""
    with ExitStack() as stack:
        for owner, name, value in PARTS[part]:
            stack.enter_context(patch.object(owner, name, value))
        yield


def gate() -> Sequence[Result]:
    """Play the scenarios of the gate, with two seeds."""
    return [simulate(KneeLimit(each.initial), each, seed=seed) for each in GATE for seed in (1, 2)]


def small() -> Sequence[Result]:
    """Play six scenarios on services of few workers, with a seed that the gate does not use."""
    asked = (STEADY, HALVED, SLOWER, QUOTA, HEAVY_TAIL, COLLAPSE)
    return [
        simulate(KneeLimit(), resized(each, workers, seconds), seed=11)
        for workers, seconds in SMALL
        for each in asked
    ]


def held_out() -> Sequence[Result]:
    """Play 24 random services that took no part in the tuning."""
    return [simulate(KneeLimit(), service(number), seed=number) for number in HELD_OUT[:24]]


def _scores(results: Sequence[Result]) -> str:
    return f"{overall(results):.1f}, {min(result.score for result in results):.1f}"


def row(name: str) -> str:
    """Return the line of the table for one part removed, or for "nothing"."""
    with ExitStack() as stack:
        if name != "nothing":
            stack.enter_context(without(name))
        cells = [_scores(play()) for play in (gate, small, held_out)]
    return f"{name:<32}" + "".join(f"{cell:>14}" for cell in cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    names = ("nothing", *PARTS)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default: all"
    )
    chosen = parser.parse_args().names or names
    if unknown := set(chosen) - set(names):
        parser.error(f"there is no part {min(unknown)!r}; choose from {', '.join(names)}")
    print("overall score, worst score")
    print(f"{'removed':<32}{'gate':>14}{'small':>14}{'held-out':>14}")
    for name in chosen:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
