"""Metrics and spans, as the OpenTelemetry SDK sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from trio.testing import MockClock

from testkit.pipelines import into
from trio_turnstile import (
    Consumer,
    Phase,
    Processor,
    Producer,
    Retry,
    Scalable,
    Skip,
    Throttle,
    open_turnstile,
    run_phases,
)
from trio_turnstile.integrations.opentelemetry import (
    TracedOperation,
    observe_durations,
    observe_metrics,
    traced,
)
from trio_turnstile.integrations.opentelemetry._metrics import OTHERS, snapshot

Key = tuple[str, frozenset[tuple[str, Any]]]


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """A reader that reads when asked."""
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    """The provider of meters."""
    provider = MeterProvider([reader])
    yield provider
    provider.shutdown()


def numbers(reader: InMemoryMetricReader) -> dict[Key, Any]:
    """Return the points of all metrics, by name and attributes."""
    data = reader.get_metrics_data()
    found: dict[Key, Any] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    attributes = frozenset((point.attributes or {}).items())
                    name = metric.name.removeprefix("turnstile.")
                    found[name, attributes] = getattr(point, "value", point)
    return found


def of_limiter(name: str, limiter: str, **attributes: str) -> Key:
    return name, frozenset({"turnstile.limiter": limiter, **attributes}.items())


def of_step(name: str, run: str, step: str, **attributes: str) -> Key:
    labels = {"turnstile.run": run, "turnstile.step": step, **attributes}
    return name, frozenset(labels.items())


async def fails_on_multiples_of_ten(number: int) -> int:
    await trio.sleep(1)
    if number % 10 == 0:
        raise OSError(number)
    return number


async def test_limiters_and_steps_are_read(
    reader: InMemoryMetricReader, provider: MeterProvider, autojump_clock: MockClock
) -> None:
    """Limiters and steps can be read at any moment; a closed turnstile leaves nothing behind."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        observe_metrics(turnstile, provider)
        api = turnstile.limiter("api", 4, throttle=Throttle(hold=0))
        api.down()
        pipeline = (
            Producer(range(20))
            | Processor(fails_on_multiples_of_ten, name="fetch", limiter=api, on_error=[Skip()])
            | Consumer(into([]), name="store")
        )
        await nursery.start(pipeline.run)
        await nursery.start(
            partial(run_phases, [Slow()], limiter=turnstile.limiter("jobs", 1), name="night")
        )
        await trio.sleep(4.5)
        found = numbers(reader)
        nursery.cancel_scope.cancel()
    assert found[of_limiter("limiter.limit", "api")] == 2
    assert found[of_limiter("limiter.active", "api")] == 2
    assert found[of_limiter("limiter.queued", "api")] <= 2
    assert found[of_limiter("limiter.requests", "api", result="acquired")] == 10
    assert found[of_limiter("limiter.decisions", "api", reason="signal")] == 1
    assert found[of_step("step.items", "pipeline", "fetch", outcome="failed")] == 1
    assert found[of_step("step.items", "pipeline", "store", outcome="completed")] == 7
    assert found[of_step("step.received", "night", "operations")] == 1
    assert found[of_step("step.in_flight", "night", "operations")] == 1
    assert found[of_step("step.retries", "night", "operations")] == 0
    assert not [name for name, _ in numbers(reader) if name == "limiter.limit"]


class Slow(Scalable):
    async def work(self, channels: Any) -> None:
        await trio.sleep(60)


async def test_too_many_limiters_are_summed_up_and_that_is_said(
    reader: InMemoryMetricReader,
    provider: MeterProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The SDK would leave out limiters beyond its bound silently, so they are summed up."""
    async with open_turnstile() as turnstile:
        observe_metrics(turnstile, provider, most=3)
        for number in range(5):
            turnstile.limiter(f"api{number}", 10)
        found = numbers(reader)
    limits = {key: value for key, value in found.items() if key[0] == "limiter.limit"}
    assert limits == {
        of_limiter("limiter.limit", "api0"): 10,
        of_limiter("limiter.limit", "api1"): 10,
        of_limiter("limiter.limit", "api2"): 10,
        of_limiter("limiter.limit", OTHERS): 20,
    }
    (record,) = caplog.records
    assert "more than 3 limiters: 'api3' and all further ones are added up" in record.getMessage()


async def test_limiters_of_one_kind_are_summed(
    reader: InMemoryMetricReader, provider: MeterProvider
) -> None:
    """A function of the user names the kinds by which limiters are summed."""
    async with open_turnstile() as turnstile:
        observe_metrics(turnstile, provider, group=lambda name: name.split()[0])
        turnstile.limiter("customer a", 2)
        turnstile.limiter("customer b", 3)
        found = numbers(reader)
    assert found[of_limiter("limiter.limit", "customer")] == 5


def test_a_view_that_changes_while_it_is_read_is_read_again() -> None:
    """A view that another thread changes during the reading is read again."""

    class Changing(dict[str, int]):
        def items(self) -> Any:
            if len(self) < 3:
                view = super().items()
                iterator = iter(view)
                self[f"key {len(self)}"] = 0
                return iterator
            return super().items()

    view: Mapping[str, int] = Changing(first=0)
    assert len(snapshot(view)) == 3


async def test_durations_are_a_histogram(
    reader: InMemoryMetricReader, provider: MeterProvider, autojump_clock: MockClock
) -> None:
    """Each step and outcome has a histogram, until the observer is closed."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 4)
        pipeline = Producer(range(20)) | Consumer(
            fails_on_multiples_of_ten, name="fetch", limiter=api, on_error=[Skip()]
        )
        with observe_durations(turnstile, provider):
            await pipeline.run()
        await pipeline.run()
        found = numbers(reader)
    point = found[of_step("step.duration", "pipeline", "fetch", outcome="completed")]
    assert (point.count, point.sum) == (18, 18)
    failed = found[of_step("step.duration", "pipeline", "fetch", outcome="failed")]
    assert failed.count == 2


# ---- spans ----


class Spans:
    """A list of the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]


@pytest.fixture
def spans() -> Iterator[Spans]:
    """The spans that were made."""
    spans = Spans()
    yield spans
    spans.provider.shutdown()


class Job(Scalable):
    """An operation that fails once."""

    def __init__(self) -> None:
        self.attempts = 0
        self.recalled = self.was_skipped = False

    identifiers = ("job", "7")
    identity = "job 7"
    goes_on = True

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        return "monitor"

    def skipped(self) -> None:
        self.was_skipped = True

    async def work(self, channels: Any) -> None:
        self.attempts += 1
        if self.attempts == 1:
            raise OSError("disk full")


@pytest.mark.parametrize(("retries", "status"), [(1, StatusCode.UNSET), (0, StatusCode.ERROR)])
async def test_an_operation_is_a_span_with_its_phases_in_it(
    spans: Spans, autojump_clock: MockClock, retries: int, status: StatusCode
) -> None:
    """The span covers all attempts, in the trace of the caller; the last attempt decides."""
    with spans.provider.get_tracer("test").start_as_current_span("night"):
        operation = TracedOperation(Job(), spans.provider)
        await run_phases([operation], limiter=1, on_error=[Retry(retries), Skip()])
    (job,) = spans.named("Job")
    (night,) = spans.named("night")
    assert job.parent == night.context
    assert (job.attributes or {})["turnstile.identifiers"] == ("job", "7")
    phases = [span for span in spans.all if span.parent == job.context]
    again = ["prepare", "work", "monitor"] * retries
    assert [span.name for span in phases] == ["prepare", "work", *again, "cleanup"]
    assert phases[1].status.status_code is StatusCode.ERROR
    assert job.status.status_code is status
    if status is StatusCode.ERROR:
        assert job.status.description == "work: OSError: disk full"
    assert "TracedOperation(<" in repr(operation)


async def test_a_traced_operation_is_like_the_operation(spans: Spans) -> None:
    """A run and its ledger see no difference, and clean-up alone has a span, too."""
    job = Job()
    operation = TracedOperation(job, spans.provider)
    assert (operation.identifiers, operation.identity) == (job.identifiers, job.identity)
    assert operation.goes_on
    assert operation.recall({}) == "monitor"
    operation.skipped()
    assert job.was_skipped


async def test_each_item_of_a_traced_step_has_a_span(
    spans: Spans, autojump_clock: MockClock
) -> None:
    """The span is inside the one in which the pipeline is run, and has the errors."""
    results: list[int] = []
    fetch: Callable[[int], Any] = traced(fails_on_multiples_of_ten, tracer_provider=spans.provider)
    pipeline = (
        Producer(range(3))
        | Processor(fetch, limiter=2, on_error=[Skip()])
        | Consumer(into(results))
    )
    with spans.provider.get_tracer("test").start_as_current_span("run"):
        await pipeline.run()
    (run,) = spans.named("run")
    items = spans.named("fails_on_multiples_of_ten")
    assert [span.parent for span in items] == [run.context] * 3
    failed = [span for span in items if span.status.status_code is StatusCode.ERROR]
    assert len(failed) == 1
    assert sorted(results) == [1, 2]
