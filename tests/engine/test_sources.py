"""How sources are read, where a pipeline would not show it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Aborted, run_phases
from trio_turnstile._engine.read_ahead import merge_sources, read_iterator, read_pages
from trio_turnstile._engine.source import RunSource
from trio_turnstile._engine.sources import open_source


async def numbers(*items: int) -> AsyncIterator[int]:
    for item in items:
        await trio.lowlevel.checkpoint()
        yield item


async def fetch_page(cursor: int) -> tuple[list[int], int | None]:
    await trio.lowlevel.checkpoint()
    return [cursor], None


def made(kind: str) -> RunSource[int]:
    if kind == "async":
        return read_iterator(numbers(1))
    if kind == "pages":
        return read_pages(fetch_page, 1)
    return merge_sources([open_source([1])])


@pytest.mark.parametrize("kind", ["async", "pages", "merged"])
async def test_nothing_is_there_before_it_is_read(kind: str) -> None:
    """`receive_nowait` has no item until the source has been read; `receive` waits for one."""
    source = made(kind)
    assert source.feed is not None
    with pytest.raises(trio.WouldBlock):
        source.receive_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.feed)
        assert await source.receive() == 1
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await source.receive()
        source.finish()


@pytest.mark.parametrize("kind", ["async", "pages", "merged"])
async def test_stopped_before_it_began_a_source_ends(kind: str) -> None:
    """A source that is stopped before it is read ends at once."""
    source = made(kind)
    assert source.feed is not None
    source.stop()
    source.finish()
    await source.feed()
    with pytest.raises(trio.EndOfChannel):
        await source.receive()


async def test_an_async_iterable_is_read_only_when_wanted() -> None:
    """An async iterable is read once for each item that is waited for."""
    read: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in range(10):
            await trio.lowlevel.checkpoint()
            read.append(number)
            yield number

    opened = read_iterator(source())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(opened.feed)
        await wait_all_tasks_blocked()
        assert read == []
        for number in range(3):
            assert await opened.receive() == number
            await wait_all_tasks_blocked()
        assert read == [0, 1, 2]
        opened.stop()
        opened.finish()


async def test_an_iterator_without_aclose_is_left_alone() -> None:
    """An async iterator without ``aclose`` can be a source."""

    class Plain:
        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration

    source = read_iterator(Plain())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.feed)
        with pytest.raises(trio.EndOfChannel):
            await source.receive()
        source.finish()


async def test_an_error_in_closing_stops_the_run(autojump_clock: MockClock) -> None:
    """An error in ``aclose`` is raised, with the report, once all items are through."""

    class Sticks:
        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()
            raise OSError("sticks")

    with pytest.raises(Aborted) as caught:
        await run_phases(Sticks(), limiter=1)
    (error,) = caught.value.exceptions
    assert (error.phase, repr(error.__cause__)) == ("source", "OSError('sticks')")
    assert caught.value.report.ended


async def test_a_stopped_channel_keeps_what_comes_later() -> None:
    """Stopping the source of a channel ends the wait, and leaves later items in the channel."""
    send, receive = trio.open_memory_channel[int](1)
    source = open_source(receive)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _wait() -> None:
            with pytest.raises(trio.EndOfChannel):
                await source.receive()

        await wait_all_tasks_blocked()
        source.stop()
    send.send_nowait(5)
    with pytest.raises(trio.EndOfChannel):
        source.receive_nowait()
    assert receive.receive_nowait() == 5
