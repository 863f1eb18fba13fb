"""What signals do to the limit, in the words of the options."""

from __future__ import annotations

from trio_turnstile import Decision, Event, Reason

from ._progress import Progress


def note_decision(progress: Progress, event: Event) -> None:
    """Tell the user what a signal has done."""
    if isinstance(event, Decision) and event.signal is not None:
        progress.note(describe_decision(event))


def describe_decision(decision: Decision) -> str:
    """Return what a signal has done to the limit, in the words of the options."""
    if decision.applied:
        return f"limit {decision.before} -> {decision.after}"
    match decision.reason:
        case Reason.HOLDING:
            why = f"--hold has {decision.evidence.get('hold_left', 0):.1f} s to go"
        case Reason.AT_CEILING:
            why = "that is --max"
        case Reason.AT_MINIMUM:
            why = "that is --min"
        case reason:
            why = reason.value
    asked = "signal" if decision.signal is None else decision.signal.value
    return f"limit stays {decision.after}: {asked} refused, {why}"
