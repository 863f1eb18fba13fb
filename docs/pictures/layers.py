"""Places a graph without circles in rows, so that all arrows lead down and few of them cross.

An arrow over several rows passes through a *bend* in each row between. The order inside
the rows is the best there is; the places follow from it.
"""

from __future__ import annotations

import graphlib
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, permutations

Graph = Mapping[str, set[str]]
"""For each node, the nodes that its arrows lead to."""

Bend = tuple[str, str, int]
"""A place in a row that an arrow passes: its tail, its head, and the row."""

Spot = str | Bend
Track = str | tuple[str, str]
"""What has one place from left to right: a node, or all bends of an arrow."""
Rows = list[tuple[Spot, ...]]


def reachable(graph: Graph, node: str) -> set[str]:
    """Return the nodes that arrows lead to from a node, by way of others too."""
    return {end for target in graph[node] for end in {target, *reachable(graph, target)}}


def reduced(graph: Graph, nodes: Iterable[str]) -> dict[str, set[str]]:
    """Drop the arrows of some nodes to what their other arrows lead to anyway."""
    return {
        node: {
            target
            for target in targets
            if node not in nodes or not any(target in reachable(graph, way) for way in targets)
        }
        for node, targets in graph.items()
    }


def rows_of(graph: Graph) -> dict[str, int]:
    """Return the row of each node, counted from below: above all that its arrows lead to.

    A node with more arrows in than out goes as high as they allow, so that these are short.
    """
    rows: dict[str, int] = {}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    for node in order:
        rows[node] = max((rows[target] + 1 for target in graph[node]), default=0)
    for node in reversed(order):
        sources = [rows[source] for source, targets in graph.items() if node in targets]
        if len(sources) > len(graph[node]):
            rows[node] = min(sources) - 1
    return rows


def spots(graph: Graph) -> tuple[Rows, list[tuple[Spot, Spot]]]:
    """Return the rows from above, bends included, and the arrows from row to row."""
    level = rows_of(graph)
    rows: dict[int, list[Spot]] = {row: [] for row in sorted(level.values(), reverse=True)}
    for node in sorted(graph):
        rows[level[node]].append(node)
    pieces: list[tuple[Spot, Spot]] = []
    for tail, head in sorted((tail, head) for tail, heads in graph.items() for head in heads):
        bends: list[Bend] = [(tail, head, row) for row in range(level[tail] - 1, level[head], -1)]
        for bend in bends:
            rows[bend[2]].append(bend)
        pieces += pairwise([tail, *bends, head])
    return [tuple(row) for row in rows.values()], pieces


def crossings(
    upper: Sequence[Spot], lower: Sequence[Spot], pieces: Sequence[tuple[Spot, Spot]]
) -> int:
    """Return how many arrows between two rows cross."""
    ends = [(upper.index(a), lower.index(b)) for a, b in pieces if a in upper and b in lower]
    return sum((a < c) != (b < d) for a, b in ends for c, d in ends if a != c and b != d) // 2


def ordered(rows: Rows, pieces: Sequence[tuple[Spot, Spot]]) -> Rows:
    """Return the rows in an order in which as few arrows as possible cross."""
    best: dict[tuple[Spot, ...], tuple[int, Rows]] = {
        order: (0, [order]) for order in permutations(rows[0])
    }
    for row in rows[1:]:
        best = {
            order: min(
                (
                    (cost + crossings(above, order, pieces), [*way, order])
                    for above, (cost, way) in best.items()
                ),
                key=lambda choice: choice[0],
            )
            for order in permutations(row)
        }
    return min(best.values(), key=lambda choice: choice[0])[1]


def places(
    rows: Rows, pieces: Sequence[tuple[Spot, Spot]], width: Mapping[Spot, float], gap: float
) -> dict[Spot, float]:
    """Return the middle of each spot: near its neighbours, and clear of those in its row.

    All bends of an arrow have one place, so that it is straight from bend to bend.
    """
    apart = {
        (_track(a), _track(b)): (width[a] + width[b]) / 2 + gap
        for row in rows
        for a, b in pairwise(row)
    }
    near = [(_track(a), _track(b)) for a, b in pieces if _track(a) != _track(b)]
    at = {_track(spot): 0.0 for row in rows for spot in row}
    for _ in at:
        for (a, b), distance in apart.items():
            at[b] = max(at[b], at[a] + distance)
    for _ in range(400):
        for track in at:
            at[track] = _better(track, at, near, apart)
    return {spot: at[_track(spot)] for row in rows for spot in row}


def _track(spot: Spot) -> Track:
    return spot if isinstance(spot, str) else spot[:2]


def _better(
    track: Track,
    at: Mapping[Track, float],
    near: Sequence[tuple[Track, Track]],
    apart: Mapping[tuple[Track, Track], float],
) -> float:
    """Return the mean of the neighbours' places, as far as those in the rows let it."""
    neighbours = [at[b if a == track else a] for a, b in near if track in (a, b)]
    low = max((at[a] + d for (a, b), d in apart.items() if b == track), default=-math.inf)
    high = min((at[b] - d for (a, b), d in apart.items() if a == track), default=math.inf)
    return min(max(sum(neighbours) / len(neighbours), low), high)
