"""Metrics for Prometheus: ``pip install 'trio-turnstile[prometheus]'``.

The numbers are read in the trio run, in small portions, and put into Prometheus' format in a
thread: a scrape of thousands of limiters holds up no task. Only a collector that is registered
with a registry of the package ``prometheus_client`` needs that package.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import attrs
import trio

from trio_turnstile import (
    Event,
    Limiter,
    PipelineReport,
    Report,
    RunClosed,
    RunReport,
    StepReport,
    Totals,
    Turnstile,
)

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["METRICS", "TurnstileCollector", "metrics_text"]

PORTION = 250
"""So many limiters are read before other tasks get their turn."""

RUNS = 100
"""The counts of so many runs that have ended are kept."""

_OF_LIMITER, _OF_RUN, _OF_STEP = ("limiter",), ("run",), ("run", "step")

METRICS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "turnstile_limiter_limit": ("gauge", _OF_LIMITER, "How many may run at a time; +Inf for any."),
    "turnstile_limiter_running": ("gauge", _OF_LIMITER, "Tokens that are borrowed."),
    "turnstile_limiter_waiting": ("gauge", _OF_LIMITER, "Tasks that wait for a token."),
    "turnstile_limiter_admitted_total": ("counter", _OF_LIMITER, "Tokens that were borrowed."),
    "turnstile_limiter_turned_away_total": (
        "counter",
        _OF_LIMITER,
        "Callers that were refused, as too many were waiting.",
    ),
    "turnstile_limiter_decisions_total": (
        "counter",
        ("limiter", "reason"),
        "Changes of the limit and refusals, by reason.",
    ),
    "turnstile_limiter_cap": ("gauge", _OF_LIMITER, "Where signals have put the limit."),
    "turnstile_limiter_ceiling": ("gauge", _OF_LIMITER, "The most that signals allow."),
    "turnstile_limiter_floor": ("gauge", _OF_LIMITER, "The least that signals allow."),
    "turnstile_limiter_paused": ("gauge", _OF_LIMITER, "1 while the limiter is paused."),
    "turnstile_step_items_received_total": ("counter", _OF_STEP, "Items that a step was given."),
    "turnstile_step_items_total": (
        "counter",
        ("run", "step", "outcome"),
        "Items by what became of them.",
    ),
    "turnstile_step_items_in_flight": ("gauge", _OF_STEP, "Items in hand."),
    "turnstile_step_retries_total": ("counter", _OF_STEP, "Attempts that were made again."),
    "turnstile_run_items_expected": ("gauge", _OF_RUN, "Items that the source has, if it tells."),
}
"""The metrics: of which type they are, their labels, and what they say."""

T = TypeVar("T")

Key: TypeAlias = tuple[str, ...]
"""The name of a metric, and the values of its labels."""

Numbers: TypeAlias = defaultdict[Key, float]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text."""

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@final
class TurnstileCollector:
    """Gives the metrics of a turnstile to Prometheus.

    It can be registered with a registry of ``prometheus_client``, whatever serves it::

        REGISTRY.register(TurnstileCollector(turnstile))

    Or ``await collector.text()`` gives what is to be sent; `app` is an ASGI application. It has
    to be made in the trio run of the turnstile.

    Args:
      turnstile: whose metrics.
      detail: whether to tell the cap, the ceiling and the floor of each limiter, and whether it
        is paused, beside its limit, and how many are running and waiting.
      group: returns the name under which a limiter is shown. Limiters with the same name are
        summed up, as those of one kind that are made for each customer.

    Raises:
      trio.ClosedResourceError: if the turnstile was left.
    """

    def __init__(
        self, turnstile: Turnstile, *, detail: bool = False, group: Callable[[str], str] = str
    ) -> None:
        self._reader = _Reader(turnstile, group, detail)
        self._trio = trio.lowlevel.current_trio_token()
        self._past: dict[str, Numbers] = {}
        """The counts of runs that have ended, by name: those of the next of that name go on."""
        turnstile.observe(self._hear)

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering need not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Give the metrics, in any thread; once the trio run is over, those that stay."""
        yield from _families(self._in_trio(self._read))

    async def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        numbers = await self._reader.read_in_portions()
        self._add_past(numbers)
        return await _as_text(numbers)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the metrics: an ASGI application, for a server in this trio run or on asyncio.

        A server on asyncio may be in another thread; nothing of it waits for the trio run.
        """
        if scope["type"] != "http":
            return
        if _current_run() is self._trio:
            body = await self.text()
        else:
            body = await asyncio.to_thread(self._text_from_thread)
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # ---- inside ----

    def _hear(self, event: Event) -> None:
        if isinstance(event, RunClosed):
            name = event.run.name
            counts = self._past.pop(name, defaultdict(float))
            _add(counts, _counts_of(name, event.report))
            self._past[name] = counts
            if len(self._past) > RUNS:
                del self._past[next(iter(self._past))]

    def _in_trio(self, read: Callable[[], T]) -> T:
        """Call a function in the trio run: elsewhere, what it reads may be changing."""
        if _current_run() is self._trio:
            return read()
        try:
            return trio.from_thread.run_sync(read, trio_token=self._trio)
        except trio.RunFinishedError:
            return read()

    def _text_from_thread(self) -> bytes:
        return trio.from_thread.run(self.text, trio_token=self._trio)

    def _read(self) -> Numbers:
        numbers = self._reader.read()
        self._add_past(numbers)
        return numbers

    def _add_past(self, numbers: Numbers) -> None:
        for counts in self._past.values():
            _add(numbers, counts)


async def metrics_text(turnstile: Turnstile, *, detail: bool = False) -> bytes:
    """Return the metrics of a turnstile at this moment, in Prometheus' text format.

    Runs that have ended are not in it: a `TurnstileCollector`, made once, remembers them.

    Args:
      turnstile: whose metrics.
      detail: as for `TurnstileCollector`.

    """
    return await _as_text(await _Reader(turnstile, str, detail).read_in_portions())


@final
@attrs.frozen
class _Reader:
    """Reads the numbers of a turnstile, in its trio run."""

    turnstile: Turnstile
    group: Callable[[str], str]
    detail: bool

    def read(self) -> Numbers:
        numbers: Numbers = defaultdict(float)
        self._add_limiters(numbers, self.turnstile.limiters)
        self._add_runs(numbers)
        return numbers

    async def read_in_portions(self) -> Numbers:
        numbers: Numbers = defaultdict(float)
        names = list(self.turnstile.limiters)
        for start in range(0, len(names) + 1, PORTION):
            await trio.lowlevel.checkpoint()
            self._add_limiters(numbers, names[start : start + PORTION])
        self._add_runs(numbers)
        return numbers

    def _add_limiters(self, numbers: Numbers, names: Iterable[str]) -> None:
        limiters = self.turnstile.limiters
        for name in names:
            if name not in limiters:  # it was closed meanwhile
                continue
            limiter, shown = limiters[name], self.group(name)
            load = limiter.load()
            numbers["turnstile_limiter_limit", shown] += load.limit
            numbers["turnstile_limiter_running", shown] += load.running
            numbers["turnstile_limiter_waiting", shown] += load.waiting
            _add_totals(numbers, shown, limiter.totals())
            if self.detail:
                _add_details(numbers, shown, limiter)

    def _add_runs(self, numbers: Numbers) -> None:
        for name, run in self.turnstile.runs.items():
            report = run.report()
            _add(numbers, _counts_of(name, report))
            for step, in_flight in _in_flight(report):
                numbers["turnstile_step_items_in_flight", name, step] += in_flight
            if run.total is not None:
                numbers["turnstile_run_items_expected", name] += run.total


async def _as_text(numbers: Mapping[Key, float]) -> bytes:
    return await trio.to_thread.run_sync(_format, numbers)


def _format(numbers: Mapping[Key, float]) -> bytes:
    """Return numbers in Prometheus' text format.

    The package's own function makes five objects of each number. With 10,000 limiters it took ten
    times as long, and made the garbage collector stop all threads for a tenth of a second.
    """
    lines: dict[str, list[str]] = {name: [] for name in METRICS}
    for (name, *values), number in numbers.items():
        pairs = zip(METRICS[name][1], values, strict=True)
        labels = ",".join([f'{label}="{_escape(value)}"' for label, value in pairs])
        lines[name].append(f"{name}{{{labels}}} {_shown(number)}\n")
    parts = [
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{''.join(lines[name])}"
        for name, (kind, _, text) in METRICS.items()
        if lines[name]
    ]
    return "".join(parts).encode()


def _escape(value: str) -> str:
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return value.encode("utf-8", "replace").decode()


def _shown(number: float) -> str:
    return "+Inf" if number == math.inf else f"{number:.15g}"


def _current_run() -> trio.lowlevel.TrioToken | None:
    """Return the trio run of this thread, if there is one."""
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def _add(numbers: Numbers, more: Mapping[Key, float]) -> None:
    for key, number in more.items():
        numbers[key] += number


def _add_totals(numbers: Numbers, shown: str, totals: Totals) -> None:
    numbers["turnstile_limiter_admitted_total", shown] += totals.admitted
    if totals.turned_away:
        numbers["turnstile_limiter_turned_away_total", shown] += totals.turned_away
    for reason, number in totals.decisions.items():
        numbers["turnstile_limiter_decisions_total", shown, reason.value] += number


def _add_details(numbers: Numbers, shown: str, limiter: Limiter) -> None:
    state = limiter.statistics()
    numbers["turnstile_limiter_cap", shown] += state.cap
    numbers["turnstile_limiter_ceiling", shown] += state.ceiling
    numbers["turnstile_limiter_floor", shown] += state.minimum
    numbers["turnstile_limiter_paused", shown] += state.paused


_OUTCOMES = ("completed", "discarded", "failed", "diverted", "cancelled", "skipped")


def _steps(report: RunReport) -> Iterator[tuple[str, Report | StepReport]]:
    if isinstance(report, PipelineReport):
        yield from ((step.name, step) for step in report.steps)
    elif isinstance(report, Report):
        yield "operations", report


def _counts_of(run: str, report: RunReport) -> dict[Key, float]:
    """Return what a run has counted so far."""
    counts: dict[Key, float] = {}
    for name, step in _steps(report):
        counts["turnstile_step_items_received_total", run, name] = step.received
        counts["turnstile_step_retries_total", run, name] = step.retried
        for outcome in _OUTCOMES:
            number = getattr(step, outcome, 0)
            counts["turnstile_step_items_total", run, name, outcome] = number
    return counts


def _in_flight(report: RunReport) -> Iterator[tuple[str, int]]:
    for name, step in _steps(report):
        yield name, step.working if isinstance(step, Report) else step.in_flight


def _families(numbers: Mapping[Key, float]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families = {
        name: (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(
            name.removesuffix("_total"), text, labels=labels
        )
        for name, (kind, labels, text) in METRICS.items()
    }
    for (name, *labels), value in numbers.items():
        families[name].add_metric(labels, value)
    return (family for family in families.values() if family.samples)
