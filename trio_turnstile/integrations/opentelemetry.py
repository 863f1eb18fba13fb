"""Metrics and spans for OpenTelemetry: ``pip install 'trio-turnstile[opentelemetry]'``.

Only the API of OpenTelemetry is used; which SDK and which exporters there are is the program's
choice. Names follow the nearest conventions there are, those of rate limiters in ASP.NET Core.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, final

from trio_turnstile import (
    CallOutcome,
    Channels,
    Limiter,
    LiveRun,
    Observation,
    Phase,
    PipelineReport,
    Report,
    Scalable,
    Turnstile,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.metrics import Observation as Measured
    from opentelemetry.trace import Span, Tracer, TracerProvider

__all__ = ["TracedOperation", "observe_durations", "observe_metrics", "traced"]

NAME = "trio_turnstile"

MOST = 1000
"""For so many limiters there are series of their own by default.

The SDK keeps 2,000 series of an instrument by default, and says nothing of those beyond.
"""

OTHERS = "(others)"
"""Names the sum of all other limiters."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Series: TypeAlias = Iterator[tuple[float, dict[str, str]]]

_LOG = logging.getLogger("trio_turnstile.opentelemetry")


# ---- metrics ----


def observe_metrics(
    turnstile: Turnstile,
    meter_provider: MeterProvider | None = None,
    *,
    group: Callable[[str], str] = str,
    most: int = MOST,
) -> None:
    """Let OpenTelemetry read the limiters and the runs of a turnstile.

    A reader asks for the numbers in a thread of its own, at its own pace; nothing waits for it.
    Once the turnstile is left, there are none.

    Args:
      turnstile: whose numbers.
      meter_provider: the provider; by default the global one.
      group: returns the name under which a limiter is shown. Limiters with the same name are
        summed up, as those of one kind that are made for each customer.
      most: how many names there may be. All further limiters are summed up as ``(others)``,
        and that is logged once.

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
        (counter, "limiter.requests", numbers.requests, "{request}", "Tokens asked for."),
        (counter, "limiter.decisions", numbers.decisions, "{decision}", "Changes and refusals."),
        (counter, "step.received", numbers.received, "{item}", "Items that a step was given."),
        (counter, "step.items", numbers.items, "{item}", "Items by what became of them."),
        (counter, "step.retries", numbers.retries, "{attempt}", "Attempts made again."),
        (level, "step.in_flight", numbers.in_flight, "{item}", "Items in hand."),
    ):
        create(f"turnstile.{name}", [_callback(read)], unit=unit, description=text)


def observe_durations(
    turnstile: Turnstile, meter_provider: MeterProvider | None = None
) -> Observation:
    """Record how long the calls of steps and phases take, as ``turnstile.step.duration``.

    It is for runs that begin from now on. The SDK takes some microseconds for each call.

    Args:
      turnstile: whose runs.
      meter_provider: the provider; by default the global one.

    Returns:
      What ends it: by its ``close()``, or at the end of a ``with`` block.

    Raises:
      ModuleNotFoundError: if OpenTelemetry is not installed.
      trio.ClosedResourceError: if the turnstile was left.
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
    """Reads the numbers, in whatever thread; each is one that was there at some moment."""

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
                "more than %d limiters: those from %r on are summed up as %r; give "
                "observe_metrics a group that sums up limiters of one kind",
                self._most,
                shown,
                OTHERS,
            )
        return OTHERS

    def _of_steps(self, count: str) -> Series:
        for name, run in snapshot(self._turnstile.runs):
            report = run.report()
            if isinstance(report, Report):
                field = "working" if count == "in_flight" else count
                attributes = {"turnstile.run": name, "turnstile.step": "operations"}
                yield getattr(report, field, 0), attributes
            elif isinstance(report, PipelineReport):
                for step in report.steps:
                    attributes = {"turnstile.run": name, "turnstile.step": step.name}
                    yield getattr(step, count), attributes


def snapshot(view: Mapping[str, T]) -> tuple[tuple[str, T], ...]:
    """Return what is in a view that another thread may be changing."""
    while True:
        try:
            return tuple(view.items())
        except RuntimeError:  # it changed size meanwhile
            continue


# ---- spans ----


def traced(
    function: Callable[P, Awaitable[R]], *, tracer_provider: TracerProvider | None = None
) -> Callable[P, Awaitable[R]]:
    """Return a function of a step that opens a span for each item.

    A span costs some ten microseconds, so a step whose items take less is better left alone::

        Processor(traced(fetch), limiter=api)

    Its name is that of the function. What is called inside finds it as the current span; its
    parent is the span in which the pipeline was run.

    Args:
      function: an async function.
      tracer_provider: the provider; by default the global one.

    Raises:
      ModuleNotFoundError: if OpenTelemetry is not installed.
    """
    tracer = _tracer(tracer_provider)
    name = getattr(function, "__qualname__", type(function).__qualname__)

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with tracer.start_as_current_span(name):
            return await function(*args, **kwargs)

    return call


@final
class TracedOperation(Scalable):
    """An operation with a span, and in it one for each phase, in each attempt.

    ``run_phases(map(TracedOperation, operations), limiter=8)``. The span of the operation ends
    with its clean-up; it has the identifiers as ``turnstile.identifiers``, and the status *error*
    if the last attempt has failed.

    Args:
      operation: what is done.
      tracer_provider: the provider; by default the global one.

    Raises:
      ModuleNotFoundError: if OpenTelemetry is not installed.
    """

    def __init__(self, operation: Scalable, tracer_provider: TracerProvider | None = None) -> None:
        self.operation = operation
        """What is done."""
        self._tracer = _tracer(tracer_provider)
        self._span: Span | None = None
        self._failure: str | None = None
        """How the last attempt has failed."""

    def __repr__(self) -> str:
        return f"TracedOperation({self.operation!r})"

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Those of the operation."""
        return self.operation.identifiers

    @property
    def identity(self) -> str:
        """That of the operation."""
        return self.operation.identity

    @property
    def goes_on(self) -> bool:
        """Whether the operation does."""
        return self.operation.goes_on

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        """Let the operation recall what it remembered."""
        return self.operation.recall(facts)

    def skipped(self) -> None:
        """Tell the operation that it is skipped."""
        self.operation.skipped()

    async def prepare(self, channels: Channels) -> None:
        """Prepare, in a span."""
        await self._phase("prepare", self.operation.prepare, channels)

    async def work(self, channels: Channels) -> None:
        """Work, in a span."""
        await self._phase("work", self.operation.work, channels)

    async def monitor(self, channels: Channels) -> None:
        """Monitor, in a span."""
        await self._phase("monitor", self.operation.monitor, channels)

    async def cleanup(self, channels: Channels) -> None:
        """Clean up, in a span, and end the span of the operation."""
        try:
            await self._phase("cleanup", self.operation.cleanup, channels)
        finally:
            self._end()

    async def _phase(
        self, name: Phase, phase: Callable[[Channels], Awaitable[object]], channels: Channels
    ) -> None:
        if name == "prepare":
            self._failure = None
        with self._tracer.start_as_current_span(name, context=self._context()):
            try:
                await phase(channels)
            except Exception as error:
                self._failure = f"{name}: {type(error).__name__}: {error}"
                raise

    def _context(self) -> Context:
        """Return the context of the span of the operation, which is begun if need be."""
        from opentelemetry import trace

        if self._span is None:
            self._span = self._tracer.start_span(
                type(self.operation).__qualname__,
                attributes={"turnstile.identifiers": [str(each) for each in self.identifiers]},
            )
        return trace.set_span_in_context(self._span)

    def _end(self) -> None:
        from opentelemetry.trace import Status, StatusCode

        if self._span is not None:
            if self._failure is not None:
                self._span.set_status(Status(StatusCode.ERROR, self._failure))
            self._span.end()
        self._span = self._failure = None


def _tracer(provider: TracerProvider | None) -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer(NAME, tracer_provider=provider)
