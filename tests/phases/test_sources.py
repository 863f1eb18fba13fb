"""Where the operations of `run_phases` come from, and how far it reads ahead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.phases import Works, account, arriving
from trio_turnstile import Aborted, ConcurrentError, Manager, Retry, Scalable, Skip, run_phases


async def test_async_iterables_are_read_one_ahead(autojump_clock: MockClock) -> None:
    """An async source is read one operation ahead while others work."""
    report = await run_phases(arriving(5, every=1), limiter=1)
    assert account(report) == (5, 5, 0, 0)
    assert trio.current_time() == 6


async def test_memory_channels_are_read_and_left_open(autojump_clock: MockClock) -> None:
    """A channel is read until its senders are closed, and the run leaves it open."""
    send, receive = trio.open_memory_channel[Scalable](0)

    async def sender() -> None:
        with send:
            for _ in range(6):
                await trio.sleep(0.5)
                await send.send(Works())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        report = await run_phases(receive, limiter=2)
    assert account(report) == (6, 6, 0, 0)
    assert trio.current_time() == 4
    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()


async def test_plain_async_iterators_need_no_aclose() -> None:
    """An async iterator that is not a generator can be a source."""

    class Three:
        left = 3

        def __aiter__(self) -> Three:
            return self

        async def __anext__(self) -> Scalable:
            await trio.lowlevel.checkpoint()
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return Scalable()

    assert account(await run_phases(Three(), limiter=2)) == (3, 3, 0, 0)


async def test_operations_are_read_lazily(autojump_clock: MockClock) -> None:
    """The source is read only as far as there is room for operations."""
    taken = 0

    def source() -> Iterator[Scalable]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield Works(seconds=10)

    with trio.move_on_after(5):
        await run_phases(source(), limiter=4)
    assert taken <= 5


async def test_window_bounds_what_is_in_hand(autojump_clock: MockClock) -> None:
    """Operations that back off count in the window, and so hold the source back."""
    received = 0

    async def watch(manager: Manager) -> None:
        nonlocal received
        await trio.sleep(5)
        received = manager.received

    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(
                run_phases,
                (Works(0, OSError()) for _ in range(100)),
                limiter=2,
                window=7,
                on_error=[Retry(1, backoff=lambda n: 10), Skip()],
            )
        )
        await watch(manager)
    assert received == 7
    assert account(manager) == (100, 0, 100, 0)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_failing_source_ends_the_run_when_work_is_done(
    autojump_clock: MockClock, kind: str
) -> None:
    """If the source fails, the operations read before finish; then its error is raised."""

    def source() -> Iterator[Scalable]:
        yield Works()
        yield Works()
        raise OSError("no more pages")

    async def async_source() -> AsyncIterator[Scalable]:
        for operation in source():
            yield operation

    with pytest.raises(Aborted) as caught:
        await run_phases(source() if kind == "sync" else async_source(), limiter=3)
    (error,) = caught.value.exceptions
    assert isinstance(error, ConcurrentError)
    assert isinstance(error.__cause__, OSError)
    assert error.phase == "source"
    assert account(caught.value.report) == (2, 2, 0, 0)


async def test_source_that_cannot_give_at_once_is_told_so() -> None:
    """A plain iterator that raises `trio.WouldBlock` fails with a clear error."""

    def source() -> Iterator[Scalable]:
        yield from map(refuse, [1])

    def refuse(_: int) -> Scalable:
        raise trio.WouldBlock

    with pytest.raises(Aborted) as caught:
        await run_phases(source(), limiter=1)
    assert "it must return an item or end" in str(caught.value.exceptions[0])


async def test_async_source_is_closed_when_the_run_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """A cancelled run closes its async generator in the task that read it."""
    closed = False

    async def source() -> AsyncIterator[Scalable]:
        nonlocal closed
        try:
            async with trio.open_nursery():
                while True:
                    await trio.sleep(1)
                    yield Works()
        finally:
            closed = True

    with trio.move_on_after(3.5):
        await run_phases(source(), limiter=1)
    assert closed


async def test_what_is_no_operation_stops_the_run() -> None:
    """An item that is not a `Scalable` aborts the run with an error that names it."""
    wrong: Any = [Works(0), "sample.txt"]
    with pytest.raises(Aborted) as caught:
        await run_phases(wrong, limiter=1)
    assert "must be a Scalable, not 'sample.txt'" in str(caught.value.exceptions[0])
    assert account(caught.value.report) == (2, 1, 1, 0)
