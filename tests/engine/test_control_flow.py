"""No exception of user code is mistaken for one of the engine's own signals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Batch,
    Consumer,
    Processor,
    Producer,
    Scalable,
    Skip,
    run_phases,
)
from trio_turnstile.testing import assert_conserved

SIGNALS = [trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError, trio.BrokenResourceError]


async def store(item: object) -> None:
    await trio.lowlevel.checkpoint()


def sync(error: BaseException) -> Iterator[int]:
    yield 1
    raise error


async def asynchronous(error: BaseException) -> AsyncIterator[int]:
    yield 1
    await trio.lowlevel.checkpoint()
    raise error


def paged(error: BaseException) -> Producer[int]:
    async def fetch(cursor: int) -> tuple[list[int], int]:
        await trio.lowlevel.checkpoint()
        if cursor == 2:
            raise error
        return [1], 2

    return Producer.pages(fetch, 1)


SOURCES: dict[str, Callable[[BaseException], Producer[Any]]] = {
    "iterable": lambda error: Producer(sync(error)),
    "async": lambda error: Producer(asynchronous(error)),
    "pages": paged,
    "merged": lambda error: Producer.merge(Producer(sync(error)), Producer([2])),
    "merged async": lambda error: Producer.merge(Producer(asynchronous(error))),
}


@pytest.mark.parametrize("error", SIGNALS)
@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("batch", [None, Batch(2)])
async def test_a_source_that_raises_a_signal_is_a_source_that_fails(
    autojump_clock: MockClock,
    make: Callable[[BaseException], Producer[Any]],
    error: type[Exception],
    batch: Any,
) -> None:
    """The run neither hangs nor ends as if all were well, and the items read before go through."""
    with trio.fail_after(1000), pytest.raises(Aborted) as caught:
        consumer: Any = Consumer
        await (make(error()) | consumer(store, limiter=2, batch=batch)).run()
    (failed,) = caught.value.exceptions
    assert failed.phase == "source"
    assert error.__name__ in str(failed)
    report = caught.value.report
    assert report.steps[0].completed == report.steps[0].received >= 1
    assert_conserved(report)


@pytest.mark.parametrize("error", SIGNALS)
async def test_a_source_of_operations_that_raises_a_signal_fails(
    autojump_clock: MockClock, error: type[Exception]
) -> None:
    """A source of operations that raises a signal fails like any other source."""

    def operations() -> Iterator[Scalable]:
        yield Scalable()
        raise error

    with trio.fail_after(1000), pytest.raises(Aborted) as caught:
        await run_phases(operations(), limiter=2)
    assert error.__name__ in str(caught.value.exceptions[0])
    assert caught.value.report.completed == 1


@pytest.mark.parametrize("error", SIGNALS)
@pytest.mark.parametrize(
    "options", [{"limiter": 2}, {}, {"ordered": True}, {"key": str}, {"batch": Batch(2)}], ids=str
)
async def test_a_step_that_raises_a_signal_fails_its_item(
    error: type[Exception], options: dict[str, Any]
) -> None:
    """The policies decide about a step that raises a signal, and no item is lost."""

    async def step(item: object) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    report = await (Producer(range(4)) | Consumer(step, on_error=Skip(), **options)).run()
    assert report.steps[0].failed == 4
    assert_conserved(report)


async def kept_cancellation() -> trio.Cancelled:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep(1)
        except trio.Cancelled as error:
            return error
    raise AssertionError


class Raises(Scalable):
    """An operation that raises an error in one phase."""

    def __init__(self, phase: str, error: BaseException) -> None:
        self.phase, self.error = phase, error

    async def _maybe(self, phase: str) -> None:
        await trio.lowlevel.checkpoint()
        if phase == self.phase:
            raise self.error

    async def prepare(self, channels: Any) -> None:
        await self._maybe("prepare")

    async def work(self, channels: Any) -> None:
        await self._maybe("work")

    async def monitor(self, channels: Any) -> None:
        await self._maybe("monitor")

    async def cleanup(self, channels: Any) -> None:
        await self._maybe("cleanup")


@pytest.mark.parametrize("phase", ["prepare", "work", "monitor", "cleanup"])
async def test_a_cancellation_kept_and_raised_again_fails_the_operation(phase: str) -> None:
    """Nothing is being cancelled, so the error is treated like others."""
    operations = [Scalable(), Raises(phase, await kept_cancellation()), Scalable()]
    report = await run_phases(operations, limiter=1)
    assert (report.completed, report.failed, report.cancelled) == (2, 1, 0)
    assert report.errors[0].phase == phase
    assert "nothing is cancelled" in str(report.errors[0])
    assert_conserved(report)


@pytest.mark.parametrize("options", [{"limiter": 1}, {}, {"batch": Batch(1)}], ids=str)
@pytest.mark.parametrize("first", [True, False])
async def test_a_cancellation_kept_and_raised_again_fails_the_item(
    options: dict[str, Any], first: bool
) -> None:
    """An item whose step raises an old cancellation fails, whether the step is fused or not."""
    kept = await kept_cancellation()

    async def good(item: int) -> int:
        await trio.lowlevel.checkpoint()
        return item

    async def step(item: object) -> object:
        await trio.lowlevel.checkpoint()
        if item in (5, [5]):
            raise kept
        return item

    before: Any = Processor(step if first else good, limiter=1, on_error=Skip())
    after: Any = Consumer(good if first else step, on_error=Skip(), **options)
    report = await (Producer(range(9)) | before | after).run()
    failing = report.steps[0 if first else 1]
    assert (failing.completed, failing.failed, failing.cancelled) == (8, 1, 0)
    assert_conserved(report)


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
async def test_a_source_that_raises_a_kept_cancellation_fails(
    autojump_clock: MockClock, make: Callable[[BaseException], Producer[Any]]
) -> None:
    """A kept cancellation raised by a source does not look like the end of the source."""
    with trio.fail_after(1000), pytest.raises(Aborted, match="stopped"):
        await (make(await kept_cancellation()) | Consumer(store, limiter=2)).run()


async def test_a_cancellation_of_the_run_is_none_of_an_item(autojump_clock: MockClock) -> None:
    """What is cancelled stays cancelled, and is counted that way."""

    async def step(item: int) -> None:
        await trio.sleep(10)

    with trio.move_on_after(1):
        async with (Producer(range(9)) | Consumer(step, limiter=2, on_error=Skip())).start() as run:
            pass
    (account,) = run.steps
    assert (account.cancelled, account.failed) == (2, 0)
    assert_conserved(run)


async def test_the_end_of_one_receive_end_is_told_once(autojump_clock: MockClock) -> None:
    """All workers wait for the channel, and its error is reported as one error."""
    send, receive = trio.open_memory_channel[int](0)

    async def run() -> list[BaseException]:
        try:
            await (Producer(receive) | Consumer(store, limiter=8)).run()
        except Aborted as aborted:
            told.extend(aborted.exceptions)
        return told

    told: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for number in range(8):
            await send.send(number)
        await trio.sleep(1)
        receive.close()
    assert len(told) == 1


async def test_a_pumped_source_that_is_cancelled_is_cancelled(autojump_clock: MockClock) -> None:
    """A real cancellation while a source is read is passed on."""

    def source() -> Iterator[int]:
        yield 1
        scope.cancel()
        raise kept

    kept = await kept_cancellation()
    consumer: Any = Consumer
    with trio.CancelScope() as scope:
        async with (Producer(source) | consumer(store, batch=Batch(2))).start():
            pass
    assert scope.cancelled_caught
