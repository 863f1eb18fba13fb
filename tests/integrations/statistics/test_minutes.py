"""Samples summed up by the minute."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile.integrations.statistics._minutes import MINUTE, Minutes

LOADS = st.tuples(
    st.integers(1, 3),
    st.one_of(st.none(), st.integers(0, 5)),
    st.integers(0, 5),
    st.integers(0, 5),
)
"""The limiter, its limit, running and waiting."""


def samples(loads: list[tuple[int, int | None, int, int]], step: int) -> list[dict[str, Any]]:
    return [
        {"limiter": limiter, "taken": at * step, "tokens": limit, "running": run, "waiting": wait}
        for at, (limiter, limit, run, wait) in enumerate(loads)
    ]


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the minute that the samples make, by a plain model."""
    limits = [row["tokens"] for row in rows]
    known = [limit for limit in limits if limit is not None]
    return {
        "limiter": rows[0]["limiter"],
        "taken": rows[0]["taken"] // MINUTE * MINUTE,
        "samples": len(rows),
        "saturated": sum(
            row["tokens"] is not None
            and row["running"] >= row["tokens"]
            and row["running"] + row["waiting"] > 0
            for row in rows
        ),
        "tokens_min": min(known, default=None),
        "tokens_max": None if None in limits else max(known),
        "running_sum": sum(row["running"] for row in rows),
        "running_max": max(row["running"] for row in rows),
        "waiting_sum": sum(row["waiting"] for row in rows),
        "waiting_max": max(row["waiting"] for row in rows),
    }


@given(
    st.lists(LOADS, max_size=40),
    st.sampled_from([2000, 20_000, 70_000]),
    st.lists(st.integers(0, 40), max_size=6),
    st.booleans(),
)
def test_minutes_are_what_a_plain_model_says(
    loads: list[Any], step: int, cuts: list[int], again: bool
) -> None:
    """The minutes agree however samples are batched, and when a failed batch is retried."""
    minutes = Minutes()
    stored: dict[tuple[int, int], dict[str, Any]] = {}
    all_samples = samples(loads, step)
    bounds = [0, *sorted(cuts), len(all_samples)]
    for start, end in pairwise(bounds):
        if again:
            minutes.touched(all_samples[start:end])
        rows = minutes.touched(all_samples[start:end])
        minutes.remember(rows)
        stored |= {(row["limiter"], row["taken"]): row for row in rows}
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in all_samples:
        groups.setdefault((row["limiter"], row["taken"] // MINUTE * MINUTE), []).append(row)
    assert stored == {key: summed(rows) for key, rows in groups.items()}
