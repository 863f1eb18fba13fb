"""The output of ``turnstile ctl``: lines of text made from documents. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ._client import Document
from ._durations import format_clock

_LIMITERS = ("limiter", "limit", "running", "waiting", "max", "")
_BOUNDS = {
    "policy": "by the policy",
    "withheld": "as tokens are withheld",
    "breaker": "as the breaker sees an outage",
}
_TOKENS = ("limit", "cap", "ceiling")
_STEPS = ("step", "received", "done", "failed", "in hand", "retried")


def limiter_lines(limiters: Sequence[Document]) -> Iterator[str]:
    """Yield a table of limiters."""
    if not limiters:
        yield "no limiters"
        return
    yield from table([_LIMITERS, *map(_limiter_row, limiters)])


def limiter_details(limiter: Document) -> Iterator[str]:
    """Yield everything about one limiter, a line for each figure."""
    rows = [(name.replace("_", " "), _shown(name, value)) for name, value in limiter.items()]
    yield from table(rows, right=())


def decision_line(decision: Document) -> str:
    """Return the time of a decision, its limiter, and the decision itself."""
    return f"{clock(decision['time'])} {decision.get('limiter', '')}: {sentence(decision)}"


def answer_line(answer: Document) -> str:
    """Return the result of a change."""
    return f"{answer['limiter']['name']}: {sentence(answer['decision'])}"


def sentence(decision: Document) -> str:
    """Return a decision as a sentence: who asked for it, why, and how often it was made."""
    times = f" ({decision['repeated'] + 1} times)" if decision["repeated"] else ""
    return f"{decision['text']}{times}"


def run_lines(runs: Sequence[Document], now: float) -> Iterator[str]:
    """Yield, for each run, how far it has come, a table of its steps, and its last errors."""
    if not runs:
        yield "no runs"
    for run in runs:
        yield f"{run['id']}: {run_standing(run, now)}"
        yield from (f"  {line}" for line in table([_STEPS, *map(step_row, run["steps"])]))
        yield from (f"  {error_text(error)}" for error in run["errors"])
        if more := run["errors_omitted"]:
            yield f"  and {more} more error{'s' if more > 1 else ''}"


def run_standing(run: Document, now: float) -> str:
    """Return the state of a run, how long it has taken, and how much of it is done."""
    parts = [str(run["state"]), format_clock(max(0.0, now - run["started"]))]
    if run["total"] is not None:
        parts.append(f"{ended_items(run)} of {run['total']}")
    return ", ".join(parts)


def ended_items(run: Document) -> int:
    """Return how many items of a run have ended."""
    if not run["steps"]:
        return 0
    last = run["steps"][-1]
    return int(last["received"] - last["in_flight"])


def step_row(step: Document) -> tuple[str, ...]:
    """Return the row of a step."""
    done = step["completed"] + step.get("discarded", 0)
    counts = (step["received"], done, step["failed"], step["in_flight"], step["retried"])
    return (str(step["name"]), *map(str, counts))


def error_text(error: Document) -> str:
    """Return an error as one line."""
    where = f"{error['step']}: " if error.get("step") else ""
    return f"{where}{error['text']}"


def event_line(kind: str, document: Document, now: float) -> str | None:
    """Return the line for an event that arrives now, or ``None`` if it gets no line."""
    match kind:
        case "decision":
            return decision_line(document)
        case "error":
            return f"{clock(now)} {document['run']}: {error_text(document)}"
        case "run":
            return f"{clock(now)} {document['id']}: {document['state']}"
        case "bye":
            return f"{clock(now)} the process has ended"
    return None


def table(rows: Sequence[Sequence[str]], right: Iterable[int] | None = None) -> Iterator[str]:
    """Yield the lines of a table; all columns but the first and the last hold numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(1, len(widths)) if right is None else right
    for row in rows:
        cells = [
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def tokens(number: float | None) -> str:
    """Return a number of tokens; ``None`` is no limit."""
    return "inf" if number is None else f"{number:g}"


def clock(unix_time: float) -> str:
    """Return the time of day of a Unix time."""
    return time.strftime("%H:%M:%S", time.localtime(unix_time))


def remark(limiter: Document) -> str:
    """Return why a limit has its value, if the reason is unusual."""
    return ", ".join(_remarks(limiter))


def _remarks(limiter: Document) -> Iterator[str]:
    if limiter["paused"]:
        left = limiter["paused_for"]
        yield "paused" if left is None else f"paused for {format_clock(left)}"
    override = limiter["override"]
    if override is not None:
        yield override_text(override)
    elif limiter["limited_by"] in _BOUNDS:
        yield _BOUNDS[limiter["limited_by"]]


def override_text(override: Document) -> str:
    """Return who has set a limit, until when, and why."""
    by = f" by {override['by']}" if override["by"] else ""
    until = "" if override["until"] is None else f" until {clock(override['until'])}"
    note = f": {override['note']}" if override["note"] else ""
    return f"set{by}{until}{note}"


def _limiter_row(limiter: Document) -> tuple[str, ...]:
    return (
        str(limiter["name"]),
        tokens(limiter["limit"]),
        str(limiter["running"]),
        str(limiter["waiting"]),
        tokens(limiter["ceiling"]),
        remark(limiter),
    )


def _shown(name: str, value: Any) -> str:
    if name == "override" and value is not None:
        return f"{tokens(value['limit'])}, {override_text(value)}"
    if isinstance(value, dict):
        return ", ".join(f"{bound} {tokens(number)}" for bound, number in value.items())
    if value is None:
        return "inf" if name in _TOKENS else "no"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
