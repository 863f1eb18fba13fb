"""Notes about decisions on the limit, in the words of the options."""

from __future__ import annotations

import math
from typing import final

from trio_turnstile import Decision, Event, Reason

from ._progress import Progress
from ._queue import QUEUE

_ASKED = {
    Reason.OVERRIDE: "set",
    Reason.RELEASED: "override ended",
    Reason.PAUSED: "paused",
    Reason.RESUMED: "resumed",
}
"""Changes that somebody can ask for, apart from signals."""

_EVERY = 10.0
"""Seconds between two notes about an adaptive policy, which may move the limit constantly."""


@final
class DecisionNotes:
    """Tells the user what signals do, and from time to time what an adaptive policy does.

    Args:
      progress: shows the notes.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next = -math.inf

    def note(self, event: Event) -> None:
        """Tell the user about an event, if it is worth a line."""
        if not isinstance(event, Decision) or event.limiter == QUEUE:
            return
        if _was_asked_for(event) or self._is_due(event):
            self._progress.note(describe_decision(event))

    def _is_due(self, decision: Decision) -> bool:
        moved = decision.reason is Reason.POLICY and decision.before != decision.after
        if not moved or decision.time < self._next:
            return False
        self._next = decision.time + _EVERY
        return True


def describe_decision(decision: Decision) -> str:
    """Return what a decision did to the limit, in the words of the options."""
    if decision.reason is Reason.POLICY:
        why = decision.evidence.get("reason", "")
        return f"limit {decision.before} -> {decision.after}: {why}"
    if decision.reason in _ASKED:
        change = f"limit {decision.before:g} -> {decision.after:g}"
        return f"{change}: {_ASKED[decision.reason]}{_asker(decision)}"
    if decision.applied and decision.before == decision.after:  # an adaptive limit is below it
        return f"limit stays {decision.after}, and can become {decision.evidence['cap']}"
    if decision.applied:
        return f"limit {decision.before} -> {decision.after}"
    match decision.reason:
        case Reason.HOLDING:
            why = f"--hold lasts {decision.evidence.get('hold_left', 0):.1f} s more"
        case Reason.AT_CEILING:
            why = "that is --max"
        case Reason.AT_MINIMUM:
            why = "that is --min"
        case Reason.OVERRIDDEN:
            why = f"{decision.evidence.get('by') or 'somebody'} has set it"
        case reason:
            why = reason.value
    asked = "signal" if decision.signal is None else decision.signal.value
    return f"limit stays {decision.after}: {asked} refused, {why}"


def _was_asked_for(decision: Decision) -> bool:
    if decision.reason is Reason.UNCHANGED:
        return False  # whoever asked for it knows
    return decision.signal is not None or decision.reason in _ASKED


def _asker(decision: Decision) -> str:
    by = f" by {decision.by}" if decision.by else ""
    return f"{by}: {decision.note}" if decision.note else by
