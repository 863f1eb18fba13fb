"""The figures of a simulated run, relative to an oracle that knows the capacity."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import attrs

from ._engine import Books, Run, TracePoint
from ._scenarios import TICK, Scenario

SETTLED_WITHIN = (0.75, 1.5)
"""A limit counts as settled between these multiples of the true capacity ..."""
SETTLED_SHARE, SETTLED_SPAN = 0.8, 5.0
"""... for this share of the seconds that follow."""


def jain(shares: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 when all shares are equal, 1/n when one takes all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values are below; nan if there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


@final
@attrs.frozen
class Result:
    """The figures of one policy in one scenario.

    All but ``settled``, ``trace`` and ``books`` exclude the warm-up.
    """

    scenario: Scenario
    """What was simulated."""
    throughput: float
    """Calls that succeeded, as a share of the oracle's."""
    p99_ratio: float
    """99th percentile of the latency over the oracle's; in open mode latency counts from
    the arrival."""
    rejected: float
    """Calls refused or timed out, as a share of all calls that ended."""
    shed: int
    """Calls that were shed before they got a token."""
    settled: tuple[float | None, ...]
    """For each jump of the capacity (including the beginning), seconds until the limit is right
    and stays right; None if this does not happen before the next jump."""
    fairness: float
    """Jain's index of the clients' throughput from 20 s after the last joined; 1 with one
    client."""
    changes_per_minute: float
    """How often the limit's whole part changed."""
    trace: tuple[TracePoint, ...] = attrs.field(repr=False)
    """Every tick, for a plot."""
    books: tuple[Books, ...] = attrs.field(repr=False)
    """The counts of each client."""

    @property
    def score(self) -> float:
        """Throughput, less the share rejected, over the root of the p99 ratio; 0 to about 100."""
        return 100 * self.throughput * (1 - self.rejected) / math.sqrt(max(1.0, self.p99_ratio))


def overall(results: Sequence[Result]) -> float:
    """Return the geometric mean of the scores, so that one bad scenario counts."""
    return math.exp(sum(math.log(max(1e-9, result.score)) for result in results) / len(results))


def assess(scenario: Scenario, run: Run, oracle: Run) -> Result:
    """Compare a run with the oracle's run of the same scenario and seed."""
    latencies, ideal = _latencies(scenario, run), _latencies(scenario, oracle)
    overloads = sum(
        len(b.overloads) - bisect.bisect(b.overloads, scenario.warm_up) for b in run.books
    )
    return Result(
        scenario=scenario,
        throughput=len(latencies) / max(1, len(ideal)),
        p99_ratio=percentile(latencies, 0.99) / percentile(ideal, 0.99)
        if latencies and ideal
        else math.inf,
        rejected=overloads / max(1, overloads + len(latencies)),
        shed=sum(b.shed for b in run.books),
        settled=tuple(_settling(scenario, run.trace, i) for i in range(len(scenario.changes))),
        fairness=_fairness(scenario, run.trace),
        changes_per_minute=_changes(scenario, run.trace),
        trace=run.trace,
        books=run.books,
    )


def _latencies(scenario: Scenario, run: Run) -> list[float]:
    return [
        latency for books in run.books for end, latency in books.latencies if end > scenario.warm_up
    ]


def _settling(scenario: Scenario, trace: Sequence[TracePoint], change: int) -> float | None:
    begin = scenario.changes[change]
    end = (*scenario.changes[1:], scenario.duration)[change]
    right = [_is_right(point) for point in trace if begin <= point.time < end]
    span = round(SETTLED_SPAN / TICK)
    for i in range(len(right)):
        following = right[i : i + span]
        if right[i] and sum(following) >= SETTLED_SHARE * len(following):
            return i * TICK
    return None


def _is_right(point: TracePoint) -> bool:
    low, high = SETTLED_WITHIN
    return low * point.capacity <= int(sum(point.limits)) <= high * point.capacity


def _fairness(scenario: Scenario, trace: Sequence[TracePoint]) -> float:
    since = max(client.joins for client in scenario.clients) + 20.0
    late = [point.finished for point in trace if point.time >= since]
    return jain([sum(column) for column in zip(*late, strict=True)]) if late else 1.0


def _changes(scenario: Scenario, trace: Sequence[TracePoint]) -> float:
    limits = [
        tuple(int(limit) for limit in point.limits)
        for point in trace
        if point.time >= scenario.warm_up
    ]
    moves = sum(before != after for before, after in pairwise(limits))
    return 60 * moves / max(TICK, len(limits) * TICK)
