"""`Turnstile.runs`: the runs under limiters of a turnstile, and what its observers see of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.operations import Operation, Work
from trio_turnstile import (
    Abort,
    Aborted,
    Consumer,
    ErrorNoted,
    Event,
    Limiter,
    LiveRun,
    Processor,
    Producer,
    RunClosed,
    RunOpened,
    Skip,
    open_turnstile,
    start_phases,
)


def phases(
    work: Work, limiter: Any, items: Iterable[int] = range(3), **options: Any
) -> AbstractAsyncContextManager[LiveRun]:
    operations = [Operation(number, work) for number in items]
    return start_phases(operations, limiter=limiter, **options)


def pipeline(
    work: Work, limiter: Any, items: Any = range(3), **options: Any
) -> AbstractAsyncContextManager[LiveRun]:
    on_error = options.pop("on_error", Skip())
    return (Producer(items) | Consumer(work, limiter=limiter, on_error=on_error)).start(**options)


def results(
    work: Work, limiter: Any, items: Any = range(3), **options: Any
) -> AbstractAsyncContextManager[LiveRun]:
    return (Producer(items) | Processor(work, limiter=limiter)).open(**options)


KINDS = {"phases": phases, "pipeline": pipeline, "results": results}


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


async def wait(number: int) -> int:
    await trio.sleep(3600)
    return number


async def nothing(_: int) -> None:
    await trio.lowlevel.checkpoint()


async def fail(number: int) -> None:
    await trio.lowlevel.checkpoint()
    raise ValueError(f"number {number}")


async def test_a_run_is_listed_while_it_goes_on(start: Any, autojump_clock: MockClock) -> None:
    """A run is listed under its name from start to end, and observers see both."""
    heard: list[Event] = []
    async with open_turnstile(sample_every=1e6) as turnstile:
        api = turnstile.limiter("api", 2)
        turnstile.observe(heard.append)
        async with start(wait, api, name="import") as run:
            (listed,) = turnstile.runs.values()
            assert list(turnstile.runs) == ["import"]
            assert (listed.name, listed.id) == (run.name, run.id) == ("import", run.id)
            assert (listed.kind, run.kind) == (run.kind, listed.kind)
            assert run.started == listed.started == trio.current_time()
            assert (run.state, run.total) == ("running", 3)
            assert heard == [RunOpened(trio.current_time(), listed)]
            await trio.sleep(1)
            run.cancel()
            assert run.state == listed.state == "cancelling"
        assert run.state == "ended"
        assert turnstile.runs == {}
        report = run.report()
        assert report.ended
        assert heard[1:] == [RunClosed(trio.current_time(), listed, report)]


async def test_a_run_that_is_drained_says_so(autojump_clock: MockClock) -> None:
    """A run that is being drained says so, until its deadline has come."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        async with pipeline(wait, api):
            run = turnstile.runs["pipeline"]
            await trio.sleep(1)
            run.drain(trio.current_time() + 5)
            await trio.sleep(4)
            assert run.state == "draining"
        assert trio.current_time() == run.started + 6


async def test_runs_of_one_name_get_numbers() -> None:
    """Runs of one name get numbers; a run without a name is called after its kind."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        async with (
            pipeline(wait, api) as one,
            pipeline(wait, api) as two,
            phases(wait, api) as three,
        ):
            assert list(turnstile.runs) == ["pipeline", "pipeline-2", "phases"]
            assert (one.name, two.name, three.name) == ("pipeline", "pipeline-2", "phases")
            assert (one.kind, three.kind) == ("pipeline", "phases")
            assert one.id != two.id
            for run in (one, two, three):
                run.cancel()
        async with pipeline(nothing, api) as four:
            assert four.name == "pipeline"


async def test_a_run_of_steps_of_two_turnstiles_is_in_both() -> None:
    """A run in two turnstiles has one name, which is free in both."""
    async with open_turnstile() as one, open_turnstile() as other:
        mine, yours = one.limiter("mine", 1), other.limiter("yours", 1)
        first, second = Processor(wait, limiter=mine), Consumer(nothing, limiter=yours)
        both = (Producer(range(3)) | first | second).start()
        async with (
            pipeline(wait, mine),
            pipeline(wait, yours, name="pipeline-2"),
            both as run,
        ):
            assert run.name == "pipeline-2-2"
            assert one.runs["pipeline-2-2"] is other.runs["pipeline-2-2"] is run
            for listed in (*one.runs.values(), *other.runs.values()):
                listed.cancel()
        assert not one.runs
        assert not other.runs


async def test_a_run_without_a_turnstile_is_listed_nowhere(start: Any) -> None:
    """A run without a turnstile has a name and a state anyway."""
    async with open_turnstile() as turnstile:
        for limiter in (Limiter("static", 2), trio.CapacityLimiter(2), 2):
            async with start(wait, limiter, name="alone") as run:
                assert not turnstile.runs
                assert (run.name, run.state) == ("alone", "running")
                run.cancel()
            assert run.state == "ended"


async def test_a_limiter_that_was_closed_is_in_no_turnstile() -> None:
    """A run that uses a closed limiter is not listed."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 2)
        api.close()
        turnstile.observe(heard.append)
        with pytest.raises(Aborted):
            async with pipeline(nothing, api):
                pass
    assert heard == []


async def test_each_error_is_told() -> None:
    """Observers get each error, even one that is not kept, or that stops the run."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        turnstile.observe(heard.append)
        async with phases(fail, api, range(5), max_errors=2) as run:
            pass
        errors = [event for event in heard if isinstance(event, ErrorNoted)]
        assert [str(event.error.__cause__) for event in errors] == [f"number {n}" for n in range(5)]
        assert {event.run for event in errors} == {run}
        assert errors[0].time <= trio.current_time()
        assert run.report().errors_omitted == 3
        heard.clear()
        with pytest.raises(Aborted) as aborted:
            async with pipeline(fail, api, on_error=Abort()):
                pass
        kinds = [type(event) for event in heard]
        assert kinds == [RunOpened, ErrorNoted, RunClosed]
        assert [event.error for event in heard if isinstance(event, ErrorNoted)] == list(
            aborted.value.exceptions
        )


async def test_an_error_of_nobodys_run_is_told_to_nobody() -> None:
    """A run that is in no turnstile also has its own errors."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        turnstile.observe(heard.append)
        async with phases(fail, 1) as run:
            pass
        assert len(run.report().errors) == 3
    assert heard == []


async def test_a_run_that_cannot_begin_is_not_listed() -> None:
    """The start and the end of a run that cannot begin are not reported."""

    def source() -> Iterator[int]:
        raise OSError("no such file")

    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        turnstile.observe(heard.append)
        with pytest.raises(OSError, match="no such file"):
            async with pipeline(nothing, api, source):
                pass
        assert not turnstile.runs
    assert not [event for event in heard if isinstance(event, RunOpened | RunClosed)]


async def test_a_run_that_is_cancelled_from_outside_is_closed_too() -> None:
    """The report of a cancelled run shows the items that were in hand."""
    heard: list[Event] = []
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        turnstile.observe(heard.append)
        with trio.CancelScope() as scope:
            async with phases(wait, api):
                scope.cancel()
                await trio.sleep_forever()
        assert not turnstile.runs
        closed = heard[-1]
        assert isinstance(closed, RunClosed)
        assert closed.report.ended


class Sized:
    """An iterable with a length that may fail. It is no collection, because it contains nothing."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return self._length


class Container(Sized):
    def __contains__(self, item: object) -> bool:
        return False


class Later(Sized):
    __iter__ = None  # type: ignore[assignment]

    async def __aiter__(self) -> AsyncIterator[int]:
        return
        yield


async def no_page(_: None) -> tuple[list[int], None]:
    return [], None


@pytest.mark.parametrize(
    ("producer", "total"),
    [
        (Producer([1, 2]), 2),
        (Producer(lambda: {1, 2, 3}), 3),
        (Producer(iter([1, 2])), None),
        (Producer(Container(5)), 5),
        (Producer(Container(-5)), None),
        (Producer(Sized(5)), None),
        (Producer(Later(5)), 5),
        (Producer.merge(Producer([1, 2]), Producer({3})), 3),
        (Producer.merge(Producer([1, 2]), Producer(iter([3]))), None),
        (Producer.merge(), None),
        (Producer.pages(no_page, None), None),
    ],
)
async def test_the_total_is_the_length_of_the_source(
    producer: Producer[int], total: int | None
) -> None:
    """The total is known if no query has to count; for several sources, it is the sum."""
    async with (producer | Consumer(nothing, limiter=1)).start() as run:
        assert run.total == total


async def test_a_name_is_a_text() -> None:
    """A name that is not a text is refused before anything is opened."""
    for start in KINDS.values():
        with pytest.raises(TypeError, match="name must be a text or None, not 3"):
            async with start(nothing, 1, name=3):
                pass
