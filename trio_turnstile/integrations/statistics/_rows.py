"""Rows of the database, made from events and reports. Pure; needs no extra package.

Every item of a user can be stored: texts are converted to texts that every database accepts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from trio_turnstile import (
    ConcurrentError,
    Decision,
    Limiter,
    LiveRun,
    Manager,
    PipelineReport,
    Report,
    RunReport,
    Snapshot,
    StepReport,
    dead_letter_to_dict,
)

Row: TypeAlias = dict[str, Any]

TEXT = 4000
"""How many characters of a text are stored."""

LARGEST = 2**63 - 1
"""The largest integer that a database accepts."""

Sample: TypeAlias = tuple[str, float, float, int, int]
"""Limiter, time, limit, running and waiting of a `Snapshot`.

The garbage collector does not track such tuples. With 100,000 objects instead, it would
occasionally stop all threads for a quarter of a second.
"""

Clock: TypeAlias = Callable[[float], int]
"""Returns the Unix time in milliseconds of a time on trio's clock."""


def text(value: object) -> str:
    """Return a text that both databases accept: without NULs and lone surrogates, and not long."""
    raw = value if isinstance(value, str) else repr(value)
    if len(raw) > TEXT:
        raw = raw[: TEXT - 1] + "…"
    return raw.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def as_json(value: object) -> str:
    """Return JSON without infinities, which JSON does not have; at worst, one text for it all."""
    try:
        return json.dumps(_finite(value), default=text)
    except (TypeError, ValueError, RecursionError):  # keys that are not texts, or a cycle
        return json.dumps(text(value))


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def tokens(limit: float) -> float | None:
    """Return a limit as it is stored: ``None`` stands for no limit."""
    try:
        number = float(limit)
    except OverflowError:  # an int that is too large for a float
        return None
    return number if math.isfinite(number) else None


def whole(number: int) -> int:
    """Return a number that a database accepts."""
    return min(number, LARGEST)


def sample_of(event: Snapshot) -> Sample:
    """Return the part of a snapshot that is stored."""
    return event.limiter, event.time, event.limit, event.running, event.waiting


def sample_row(sample: Sample, limiter: int, taken: int) -> Row:
    """Return the row of a sample."""
    _, _, limit, running, waiting = sample
    return {
        "limiter": limiter,
        "taken": taken,
        "tokens": tokens(limit),
        "running": running,
        "waiting": waiting,
    }


def decision_row(decision: Decision, taken: int) -> Row:
    """Return the row of a decision, without its limiter and its number."""
    return {
        "taken": taken,
        "signal": None if decision.signal is None else decision.signal.value,
        "tokens_before": tokens(decision.before),
        "tokens_after": tokens(decision.after),
        "reason": decision.reason.value,
        "author": None if decision.by is None else text(decision.by),
        "note": None if decision.note is None else text(decision.note),
        "evidence": as_json(decision.evidence),
    }


def error_row(error: ConcurrentError, taken: int) -> Row:
    """Return the row of an error, without its run and its number.

    It is made at once, so that neither the item nor the traceback is kept alive.
    """
    letter = dead_letter_to_dict(error)
    cause = error if error.__cause__ is None else error.__cause__
    return {
        "taken": taken,
        "step": text(error.phase),
        "item": None if error.item is None else _shown(error.item),
        "identifiers": as_json(letter["identifiers"]),
        "attempt": error.attempt,
        "type": text(type(cause).__qualname__),
        "message": text(letter["error"]),
    }


def _shown(item: object) -> str:
    try:
        return text(item)
    except Exception as error:  # from the user's `__repr__`
        return f"<{type(item).__qualname__}, whose repr raises {type(error).__qualname__}>"


def run_row(run: LiveRun, started: int) -> Row:
    """Return the row of a live run."""
    return {
        "uuid": run.id,
        "name": text(run.name),
        "kind": run.kind,
        "state": run.state,
        "started": started,
        "ended": None,
        "total": None if run.total is None else whole(run.total),
    }


def timed(rows: Iterable[Row], taken: int) -> list[Row]:
    """Return rows with their time."""
    return [row | {"taken": taken} for row in rows]


def count_rows(run: LiveRun, report: RunReport) -> Iterator[Row]:
    """Yield a row of counts for each step of a run, without its run and the time."""
    if isinstance(report, Report):
        counts = _counts(report) | {"discarded": 0, "waiting": 0, "queued": 0}
        counts["in_flight"] = report.working
        yield {**counts, "step": "operations", "place": 0, "limiter": _limiter_of(run)}
        return
    assert isinstance(report, PipelineReport)
    for place, step in enumerate(report.steps):
        counts = _counts(step) | {name: whole(getattr(step, name)) for name in _OF_STEPS}
        limiter = None if step.limiter is None else text(step.limiter)
        yield {**counts, "step": text(step.name), "place": place, "limiter": limiter}


def _limiter_of(run: LiveRun) -> str | None:
    limiter = run.limiter if isinstance(run, Manager) else None
    return text(limiter.name) if isinstance(limiter, Limiter) else None


_COUNTS = ("received", "completed", "failed", "diverted", "cancelled", "skipped", "retried")
_OF_STEPS = ("discarded", "in_flight", "waiting", "queued")


def _counts(report: Report | StepReport) -> Row:
    return {name: whole(getattr(report, name)) for name in _COUNTS}
