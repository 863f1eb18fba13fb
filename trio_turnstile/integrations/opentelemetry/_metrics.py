"""The numbers of a turnstile as metrics of OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias, TypeVar, final

from trio_turnstile import (
    CallOutcome,
    Limiter,
    LiveRun,
    Observation,
    PipelineReport,
    Report,
    RunReport,
    Turnstile,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.metrics import Observation as Measured

NAME = "trio_turnstile"

MOST = 900
"""How many limiters have their own series by default.

By default, the SDK keeps 2,000 series of an instrument, and silently drops further ones.
"""

OTHERS = "(others)"
"""The name for the sum of all other limiters."""

T = TypeVar("T")

Series: TypeAlias = Iterator[tuple[float, dict[str, str]]]

_LOG = logging.getLogger("trio_turnstile.opentelemetry")


def observe_metrics(
    turnstile: Turnstile,
    meter_provider: MeterProvider | None = None,
    *,
    group: Callable[[str], str] = str,
    most: int = MOST,
) -> None:
    """Let OpenTelemetry read the limiters and the runs of a turnstile.

    A reader asks for the numbers in its own thread, at its own pace; nothing waits for it. After
    the turnstile is closed, there are no numbers.

    Args:
      turnstile: the turnstile to read.
      meter_provider: the provider; by default the global one.
      group: returns the name under which a limiter is shown. Limiters with the same name are
        added up, for example all limiters that are made for one customer each.
      most: how many names there may be. All further limiters are added up as ``(others)``, and
        this is logged once.

    Raises:
      ModuleNotFoundError: if OpenTelemetry is not installed.
    """
    from opentelemetry import metrics

    meter = metrics.get_meter(NAME, meter_provider=meter_provider)
    numbers = _Numbers(turnstile, group, most)
    gauge, counter = meter.create_observable_gauge, meter.create_observable_counter
    level = meter.create_observable_up_down_counter
    for create, name, read, unit, text in (
        (gauge, "limiter.limit", numbers.limit, "{token}", "How many may run at a time."),
        (level, "limiter.active", numbers.active, "{token}", "Tokens that are borrowed."),
        (level, "limiter.queued", numbers.queued, "{task}", "Tasks that wait for a token."),
        (counter, "limiter.requests", numbers.requests, "{request}", "Requests for a token."),
        (counter, "limiter.decisions", numbers.decisions, "{decision}", "Changes and refusals."),
        (counter, "step.received", numbers.received, "{item}", "Items that a step was given."),
        (counter, "step.items", numbers.items, "{item}", "Items that have ended, by outcome."),
        (counter, "step.retries", numbers.retries, "{attempt}", "Attempts that were retries."),
        (level, "step.in_flight", numbers.in_flight, "{item}", "Items in hand."),
    ):
        create(f"turnstile.{name}", [_callback(read)], unit=unit, description=text)


def observe_durations(
    turnstile: Turnstile, meter_provider: MeterProvider | None = None
) -> Observation:
    """Record how long the calls of steps and phases take, as ``turnstile.step.duration``.

    This affects runs that begin from now on. The SDK takes a few microseconds for each call.

    Args:
      turnstile: the turnstile with the runs.
      meter_provider: the provider; by default the global one.

    Returns:
      An observation; end it with its ``close()``, or use it in a ``with`` block.

    Raises:
      ModuleNotFoundError: if OpenTelemetry is not installed.
      trio.ClosedResourceError: if the turnstile has been closed.
    """
    from opentelemetry import metrics

    histogram = metrics.get_meter(NAME, meter_provider=meter_provider).create_histogram(
        "turnstile.step.duration", unit="s", description="How long a call of a step or phase took."
    )

    def record(run: LiveRun, part: str, seconds: float, outcome: CallOutcome, /) -> None:
        attributes = {"turnstile.run": run.name, "turnstile.step": part, "outcome": outcome}
        histogram.record(seconds, attributes)

    return turnstile.observe_durations(record)


def _callback(read: Callable[[], Series]) -> Callable[[CallbackOptions], Iterable[Measured]]:
    from opentelemetry.metrics import Observation as Measured

    def callback(options: CallbackOptions) -> Iterable[Measured]:
        return [Measured(value, attributes) for value, attributes in read()]

    return callback


_RESULTS: Mapping[str, Callable[[Limiter], float]] = {
    "acquired": lambda limiter: limiter.totals().admitted,
    "rejected": lambda limiter: limiter.totals().turned_away,
}


@final
class _Numbers:
    """Reads the numbers in any thread; each number was true at some moment."""

    def __init__(self, turnstile: Turnstile, group: Callable[[str], str], most: int) -> None:
        self._turnstile = turnstile
        self._group = group
        self._most = most
        self._names: set[str] = set()
        self._warned = False

    def limit(self) -> Series:
        return self._sums(lambda limiter: limiter.load().limit)

    def active(self) -> Series:
        return self._sums(lambda limiter: limiter.load().running)

    def queued(self) -> Series:
        return self._sums(lambda limiter: limiter.load().waiting)

    def requests(self) -> Series:
        for result, read in _RESULTS.items():
            for value, attributes in self._sums(read):
                yield value, attributes | {"result": result}

    def decisions(self) -> Series:
        sums: dict[tuple[str, str], int] = {}
        for name, limiter in snapshot(self._turnstile.limiters):
            shown = self._shown(name)
            for reason, number in limiter.totals().decisions.items():
                sums[shown, reason.value] = sums.get((shown, reason.value), 0) + number
        for (shown, reason_name), number in sums.items():
            yield number, {"turnstile.limiter": shown, "reason": reason_name}

    def received(self) -> Series:
        return self._of_steps("received")

    def retries(self) -> Series:
        return self._of_steps("retried")

    def in_flight(self) -> Series:
        return self._of_steps("in_flight")

    def items(self) -> Series:
        for outcome in ("completed", "discarded", "failed", "diverted", "cancelled", "skipped"):
            for value, attributes in self._of_steps(outcome):
                yield value, attributes | {"outcome": outcome}

    def _sums(self, read: Callable[[Limiter], float]) -> Series:
        sums: dict[str, float] = {}
        for name, limiter in snapshot(self._turnstile.limiters):
            shown = self._shown(name)
            sums[shown] = sums.get(shown, 0) + read(limiter)
        for name, value in sums.items():
            yield value, {"turnstile.limiter": name}

    def _shown(self, name: str) -> str:
        shown = self._group(name)
        if shown in self._names or len(self._names) < self._most:
            self._names.add(shown)
            return shown
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "more than %d limiters: %r and all further ones are added up as %r; give "
                "observe_metrics a group that adds up limiters of one kind",
                self._most,
                shown,
                OTHERS,
            )
        return OTHERS

    def _of_steps(self, count: str) -> Series:
        for name, run in snapshot(self._turnstile.runs):
            for step, value in _of_report(run.report(), count):
                yield value, {"turnstile.run": name, "turnstile.step": step}


def _of_report(report: RunReport, count: str) -> Iterator[tuple[str, float]]:
    if isinstance(report, Report):
        field = "working" if count == "in_flight" else count
        yield "operations", getattr(report, field, 0)
        return
    assert isinstance(report, PipelineReport)
    yield from ((step.name, getattr(step, count)) for step in report.steps)


def snapshot(view: Mapping[str, T]) -> tuple[tuple[str, T], ...]:
    """Return the items of a view that another thread may be changing."""
    while True:
        try:
            return tuple(view.items())
        except RuntimeError:  # it changed size meanwhile
            continue
