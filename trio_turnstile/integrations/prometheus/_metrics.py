"""The metrics: their names and descriptions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

Key: TypeAlias = tuple[str, ...]
"""The name of a sample, and the values of its labels."""

Numbers: TypeAlias = defaultdict[Key, float]
"""A value for each."""

_OF_LIMITER, _OF_RUN, _OF_STEP = ("limiter",), ("run",), ("run", "step")

METRICS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "turnstile_limiter_limit": ("gauge", _OF_LIMITER, "How many may run at a time; +Inf for any."),
    "turnstile_limiter_running": ("gauge", _OF_LIMITER, "Tokens that are borrowed."),
    "turnstile_limiter_waiting": ("gauge", _OF_LIMITER, "Tasks that wait for a token."),
    "turnstile_limiter_admitted_total": ("counter", _OF_LIMITER, "Tokens that were borrowed."),
    "turnstile_limiter_turned_away_total": (
        "counter",
        _OF_LIMITER,
        "Callers that were refused because too many were waiting.",
    ),
    "turnstile_limiter_decisions_total": (
        "counter",
        ("limiter", "reason"),
        "Changes of the limit and refusals, by reason.",
    ),
    "turnstile_limiter_cap": ("gauge", _OF_LIMITER, "Where signals have put the limit."),
    "turnstile_limiter_ceiling": ("gauge", _OF_LIMITER, "The highest limit that signals can set."),
    "turnstile_limiter_floor": ("gauge", _OF_LIMITER, "The lowest limit that signals can set."),
    "turnstile_limiter_paused": ("gauge", _OF_LIMITER, "1 while the limiter is paused."),
    "turnstile_step_items_received_total": ("counter", _OF_STEP, "Items that a step was given."),
    "turnstile_step_items_total": (
        "counter",
        ("run", "step", "outcome"),
        "Items that have ended, by outcome.",
    ),
    "turnstile_step_items_in_flight": ("gauge", _OF_STEP, "Items in hand."),
    "turnstile_step_retries_total": ("counter", _OF_STEP, "Attempts that were retries."),
    "turnstile_step_duration_seconds": (
        "histogram",
        ("run", "step", "outcome"),
        "How long a call of a step or phase took.",
    ),
    "turnstile_run_items_expected": ("gauge", _OF_RUN, "Items of the source, if it has a length."),
}
"""The metrics: their types, labels and descriptions."""


def add(numbers: Numbers, more: Mapping[Key, float]) -> None:
    """Add numbers to other numbers."""
    for key, number in more.items():
        numbers[key] += number
