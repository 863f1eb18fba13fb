"""Spans of OpenTelemetry: for the items of a step, and for operations and their phases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, final

from trio_turnstile import Channels, Phase, Scalable

from ._metrics import NAME

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

P = ParamSpec("P")
R = TypeVar("R")


def traced(
    function: Callable[P, Awaitable[R]], *, tracer_provider: TracerProvider | None = None
) -> Callable[P, Awaitable[R]]:
    """Wrap the function of a step so that it opens a span for each item.

    A span costs about ten microseconds, so do not trace a step whose items take less::

        Processor(traced(fetch), limiter=api)

    The span has the name of the function, and is the current span for everything called inside.
    Its parent is the span in which the pipeline was run.

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
    """An operation with a span, which contains a span for each phase of each attempt.

    Use it as ``run_phases(map(TracedOperation, operations), limiter=8)``. The span of the operation
    ends with its clean-up. It has the identifiers as ``turnstile.identifiers``, and the status
    *error* if the last attempt failed.

    Args:
      operation: the operation to run.
      tracer_provider: the provider; by default the global one.

    Raises:
      ModuleNotFoundError: if OpenTelemetry is not installed.
    """

    def __init__(self, operation: Scalable, tracer_provider: TracerProvider | None = None) -> None:
        self.operation = operation
        """The operation to run."""
        self._tracer = _tracer(tracer_provider)
        self._span: Span | None = None
        self._failure: str | None = None
        """How the last attempt failed; ``None`` if it did not."""

    def __repr__(self) -> str:
        return f"TracedOperation({self.operation!r})"

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The identifiers of the operation."""
        return self.operation.identifiers

    @property
    def identity(self) -> str:
        """The identity of the operation."""
        return self.operation.identity

    @property
    def goes_on(self) -> bool:
        """Whether the operation goes on."""
        return self.operation.goes_on

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        """Let the operation recall its facts."""
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
        """Return the context with the span of the operation."""
        from opentelemetry import trace

        return trace.set_span_in_context(self._open_span())

    def _open_span(self) -> Span:
        """Return the span of the operation; begin it if necessary."""
        if self._span is None:
            self._span = self._tracer.start_span(type(self.operation).__qualname__)
            names = [str(each) for each in self.identifiers]
            self._span.set_attribute("turnstile.identifiers", names)
        return self._span

    def _end(self) -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self._open_span()
        if self._failure is not None:
            span.set_status(Status(StatusCode.ERROR, self._failure))
        span.end()
        self._span = self._failure = None


def _tracer(provider: TracerProvider | None) -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer(NAME, tracer_provider=provider)
