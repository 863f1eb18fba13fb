"""A report as one self-contained page of HTML, which makes no requests. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape

from trio_turnstile.integrations.statistics import (
    DecisionRecord,
    LimiterRecord,
    RunRecord,
    SessionRecord,
)

from ._durations import format_clock
from ._report_chart import Curve, Mark, chart
from ._report_findings import bottleneck, outcome, remarks
from ._report_style import STYLE

COUNTS = ("received", "completed", "discarded", "failed", "diverted", "cancelled", "retried")

MARKS = 60
"""How many decisions are marked in a chart."""


def page(session: SessionRecord) -> str:
    """Return the page."""
    title = f"{escape(session.name)}, {_date(session.started)}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>{STYLE}</style></head><body><main>
<h1>{title}</h1>
<p class="facts">{escape(_facts(session))}</p>
<p class="finding">{escape(bottleneck(session))}</p>
{"".join(f'<p class="remark">{escape(text)}</p>' for text in remarks(session))}
{"".join(_limiters(session))}
{"".join(_runs(session))}
</main></body></html>
"""


def _facts(session: SessionRecord) -> str:
    end = session.seen if session.ended is None else session.ended
    return (
        f"{session.command} · {session.host}, process {session.pid} · "
        f"{format_clock(end - session.started)} · {session.id}"
    )


def _date(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%Y-%m-%d %H:%M:%S}"


def _clock(time: float) -> str:
    return f"{datetime.fromtimestamp(time):%H:%M:%S}"


# ---- limiters ----


def _limiters(session: SessionRecord) -> Iterator[str]:
    end = session.seen if session.ended is None else session.ended
    if session.limiters:
        yield "<h2>Limiters</h2>"
    for limiter in session.limiters:
        yield f"<section><h3>{escape(limiter.name)}</h3>"
        yield (
            f"<p>All tokens in use {limiter.saturated:.0%} of the time; {limiter.running:.3g} "
            "running on average.</p>"
        )
        if limiter.points:
            yield _legend(("limit", "limit"), ("running", "running"), ("waiting", "waiting"))
            yield _limiter_chart(limiter, session.started, end)
        yield _averages(limiter)
        yield _decisions(limiter.decisions)
        yield "</section>"


def _limiter_chart(limiter: LimiterRecord, start: float, end: float) -> str:
    points = limiter.points
    curves = (
        Curve("running", [(point.time, point.running) for point in points]),
        Curve("waiting", [(point.time, point.waiting) for point in points]),
        Curve("limit", [(point.time, point.limit) for point in points], stepped=True),
    )
    applied = [each for each in limiter.decisions if each.before != each.after]
    marks = [Mark(each.time, each.after, _said(each)) for each in applied[-MARKS:]]
    return chart(f"Limit, running and waiting of {limiter.name}", start, end, curves, marks)


def _said(decision: DecisionRecord) -> str:
    who = f" by {decision.by}" if decision.by else ""
    note = f": {decision.note}" if decision.note else ""
    return (
        f"{_clock(decision.time)}  {decision.before:g} → {decision.after:g}, "
        f"{decision.reason}{who}{note}"
    )


def _legend(*names: tuple[str, str]) -> str:
    keys = "".join(f'<span class="{style}">{escape(name)}</span>' for style, name in names)
    return f'<p class="legend">{keys}</p>'


def _averages(limiter: LimiterRecord) -> str:
    known = {seconds: each for seconds, each in limiter.averages.items() if each is not None}
    if not known:
        return ""
    heads = [_span(seconds) for seconds in known]
    return _table("Running on average over the last", heads, [[f"{v:.3g}" for v in known.values()]])


def _span(seconds: int) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _decisions(decisions: tuple[DecisionRecord, ...]) -> str:
    rows = [
        (
            _clock(each.time),
            f"{each.before:g} → {each.after:g}",
            each.reason,
            each.by or "",
            each.note or "",
        )
        for each in reversed(decisions)
    ]
    heads = ("time", "limit", "reason", "by", "note")
    return _details(f"The last {len(rows)} decisions", _table("", heads, rows)) if rows else ""


# ---- runs ----


def _runs(session: SessionRecord) -> Iterator[str]:
    if session.runs:
        yield "<h2>Runs</h2>"
    for run in reversed(session.runs):
        yield f"<section><h3>{escape(run.name)}</h3><p>{escape(outcome(run))}</p>"
        yield from _progress(run)
        heads = ("step", "limiter", *COUNTS)
        rows = [
            (step.name, step.limiter or "", *(f"{step.counts[name]:,}" for name in COUNTS))
            for step in run.steps
        ]
        yield _table("Items of each step", heads, rows)
        yield _errors(run)
        yield "</section>"


def _progress(run: RunRecord) -> Iterator[str]:
    """Yield a chart of the items that the steps have completed, if there are enough points."""
    steps = [step for step in run.steps if len(step.progress) > 1][:5]
    if not steps:
        return
    end = max(at.time for step in steps for at in step.progress)
    curves = [
        Curve(f"step{at}", [(run.started, 0), *((p.time, p.completed) for p in step.progress)])
        for at, step in enumerate(steps)
    ]
    yield _legend(*((f"step{at}", step.name) for at, step in enumerate(steps)))
    yield chart(f"Items completed by the steps of {run.name}", run.started, end, curves)


def _errors(run: RunRecord) -> str:
    if not run.errors:
        return ""
    types = ", ".join(f"{count:,} {name}" for name, count in run.error_types.items())
    rows = [
        (_clock(each.time), each.step, each.item or "/".join(each.identifiers), each.message)
        for each in reversed(run.errors)
    ]
    table = _table("", ("time", "step", "item", "error"), rows)
    return f"<p>Errors: {escape(types)}.</p>{_details(f'The last {len(rows)} errors', table)}"


# ---- parts ----


def _details(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def _table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(_short(each))}</td>' for each in row)}</tr>" for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    # On a narrow screen only the table scrolls, also with the keyboard.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or "table")}">'
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"
