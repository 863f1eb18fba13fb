"""The findings of a report, above all its bottleneck, in sentences. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trio_turnstile.integrations.statistics import (
    LimiterRecord,
    RunRecord,
    SessionRecord,
    StepRecord,
)

OFTEN = 0.5
"""A limiter whose tokens were all in use for this share of the time was the bottleneck."""

_MOVERS = {
    "signal": "signals",
    "policy": "its adaptive policy",
    "manual": "assignments",
    "override": "an operator",
    "paused": "pauses",
    "withheld": "refused calls",
    "breaker": "its breaker",
}
"""Who moves a limit, by the reason of the decision."""


def bottleneck(session: SessionRecord) -> str:
    """Return what the bottleneck of a session was, and what can be done about it."""
    measured = [limiter for limiter in session.limiters if limiter.samples]
    if not measured:
        return "Nothing was measured: no limiter existed for long enough."
    busiest = max(measured, key=lambda limiter: limiter.saturated)
    if busiest.saturated >= OFTEN:
        return " ".join(_limiter_sentences(busiest))
    spare = (
        f"No limiter was the bottleneck: even {busiest.name!r}, the busiest, had a token to "
        f"spare {1 - busiest.saturated:.0%} of the time."
    )
    return f"{spare} {_elsewhere(session.runs, busiest)}".rstrip()


def _limiter_sentences(limiter: LimiterRecord) -> Iterator[str]:
    waiting = sum(point.waiting for point in limiter.points) / max(1, len(limiter.points))
    queue = f", and {waiting:.3g} tasks waited for one on average" if waiting >= 1 else ""
    yield (
        f"The limiter {limiter.name!r} was the bottleneck: all its tokens were in use "
        f"{limiter.saturated:.0%} of the time{queue}."
    )
    limits = [point.limit for point in limiter.points if point.limit < math.inf]
    movers = [
        f"{who} ({limiter.reasons[reason]} times)"
        for reason, who in _MOVERS.items()
        if limiter.reasons.get(reason)
    ]
    if movers:
        yield (
            f"Its limit was between {min(limits):g} and {max(limits):g}, moved by "
            f"{_listed(movers)}."
        )
    elif limits:
        yield (
            f"Its limit was {max(limits):g} throughout: raise it if whatever it protects can "
            "take more."
        )


def _elsewhere(runs: tuple[RunRecord, ...], busiest: LimiterRecord) -> str:
    """Return where the time went, if not to a limiter: to the source, or to a step."""
    steps = [(_in_hand(step), step) for run in runs for step in run.steps]
    total = sum(in_hand for in_hand, _ in steps)
    if not steps:
        return "There was less to do than it allowed."
    in_hand, step = max(steps, key=lambda each: each[0])
    if total < 1 or total <= busiest.running + 1:
        return "The source produced items more slowly than the steps took them."
    return (
        f"Of {total:.3g} items in hand on average, {in_hand:.3g} were in the step {step.name!r}: "
        "look at that step first."
    )


def _in_hand(step: StepRecord) -> float:
    return sum(at.in_flight for at in step.progress) / max(1, len(step.progress))


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def remarks(session: SessionRecord) -> Iterator[str]:
    """Yield remarks that readers need in order to understand the figures."""
    if session.ended is None:
        yield (
            "The recording has no end: the program is still running, or was killed. The figures "
            "are the last ones that it wrote."
        )
    if session.dropped_samples:
        yield (
            f"{session.dropped_samples:,} samples are missing: the database was unavailable for "
            "too long."
        )
    if session.dropped_events:
        yield f"{session.dropped_events:,} decisions or errors are missing for the same reason."
    if session.limiters_omitted:
        yield f"{session.limiters_omitted:,} less busy limiters are not shown."
    if session.runs_omitted:
        yield f"{session.runs_omitted:,} older runs are not shown."


def outcome(run: RunRecord) -> str:
    """Return how a run ended, or how far it has come, in a sentence."""
    counts = [step.counts for step in run.steps]
    received = counts[0]["received"] if counts else 0
    total = "" if run.total is None else f" of {run.total:,}"
    failed = sum(each["failed"] for each in counts)
    end = max((at.time for step in run.steps for at in step.progress), default=run.started)
    seconds = (end if run.ended is None else run.ended) - run.started
    pace = f", {received / seconds:.3g} a second" if seconds > 0 else ""
    return f"{run.state}: {received:,}{total} received, {failed:,} failed{pace}"
