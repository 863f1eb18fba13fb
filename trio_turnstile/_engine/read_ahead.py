"""`ReadAhead`: sources that have to be awaited, read in a task of their own.

An async iterable may be an async generator that holds a nursery or a cancel scope open across
its ``yield``, and trio needs these to be entered and left in one task (:pep:`789`).
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import suppress
from functools import partial
from typing import Generic, TypeAlias, TypeVar, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._util import refuse_stray

from .buffer import Buffer, failure_of
from .source import BLOCKED, ENDED, RunSource

C = TypeVar("C")
T = TypeVar("T")

Read: TypeAlias = Callable[[Buffer[T]], Awaitable[object]]
"""Reads a source into a buffer, until its end."""


@final
class ReadAhead(Generic[T]):
    """Whatever has to be awaited: it is read in a task of its own, into a buffer.

    Args:
      read: reads the source to its end.
      reads_ahead: whether a worker should wait for an item while all tokens are in use.
      aclose: closes the source.
      lingers: whether the source is to live on until the last item is through, as items may
        need what it holds open. If not, `stop` cancels a read that is under way.
      beneath: the sources that are read, which may have read ahead themselves.
    """

    has_booked = False
    waiting = ()
    blocked = BLOCKED
    ended = ENDED

    def __init__(
        self,
        read: Read[T],
        *,
        reads_ahead: bool,
        aclose: Callable[[], Awaitable[object]] | None = None,
        lingers: bool = False,
        beneath: Sequence[RunSource[T]] = (),
    ) -> None:
        self.reads_ahead = reads_ahead
        self._read = read
        self._aclose = aclose
        self._lingers = lingers
        self._beneath = beneath
        self._buffer = Buffer[T]()
        self._reading = trio.CancelScope()
        self._finished = trio.Event()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive

    def abandon(self) -> list[object]:
        """Give up what was read and not received, here and beneath."""
        left = [item for source in self._beneath for item in source.abandon()]
        return [*self._buffer.abandon(), *left]

    def let_in(self) -> None:
        """Nobody waits to put an item in."""

    def stop(self) -> None:
        self._buffer.close()
        for source in self._beneath:
            source.stop()
        if not self._lingers:
            self._reading.cancel()

    def interrupt(self) -> None:
        self._buffer.close()
        for source in self._beneath:
            source.interrupt()
        self._reading.cancel()

    def finish(self) -> None:
        for source in self._beneath:
            source.finish()
        self._reading.cancel()
        self._finished.set()

    @enable_ki_protection
    async def feed(self) -> None:
        """Read until the end, a failure, or `stop`; wait for `finish`, and close the source."""
        try:
            try:
                with self._reading:
                    await self._read_on()
            except Exception as error:
                self._buffer.close(error)
            finally:
                self._buffer.close()
            await self._finished.wait()
        finally:
            await self.close()

    async def _read_on(self) -> None:
        try:
            await self._read(self._buffer)
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise

    async def close(self) -> None:
        for source in self._beneath:
            await source.close()
        aclose, self._aclose = self._aclose, None
        if aclose is not None:
            await aclose()


async def _wait_wanted(buffer: Buffer[T]) -> None:
    """Wait until more receivers wait than there are items."""
    while buffer.closed or len(buffer.receivers) <= len(buffer.items):
        await buffer.wait_taken()


def read_channel(channel: trio.MemoryReceiveChannel[T]) -> ReadAhead[T]:
    """Return a source that reads one item for each time that a worker waits."""

    async def read(buffer: Buffer[T]) -> None:
        with suppress(trio.EndOfChannel):
            while True:
                await _wait_wanted(buffer)
                buffer.put(await channel.receive())

    return ReadAhead(read, reads_ahead=False)


def read_iterator(iterator: AsyncIterator[T]) -> ReadAhead[T]:
    """Return a source that reads one item for each time that a worker waits."""

    async def read(buffer: Buffer[T]) -> None:
        with suppress(StopAsyncIteration):
            while True:
                await _wait_wanted(buffer)
                buffer.put(await _next(iterator))

    return ReadAhead(
        read,
        reads_ahead=True,
        aclose=partial(_close_iterator, iterator),
        lingers=isinstance(iterator, AsyncGenerator),
    )


@disable_ki_protection
async def _next(iterator: AsyncIterator[T]) -> T:
    return await anext(iterator)


async def _close_iterator(iterator: AsyncIterator[object]) -> None:
    aclose = getattr(iterator, "aclose", None)
    if aclose is None:
        return
    try:
        await aclose()
    except BaseExceptionGroup as group:
        # A generator with a nursery round its `yield` wraps the GeneratorExit that ends it.
        _, errors = group.split(GeneratorExit)
        if errors is not None:
            raise errors from None


def read_pages(
    fetch_page: Callable[[C], Awaitable[tuple[Iterable[T], C | None]]], start: C
) -> ReadAhead[T]:
    """Return a source that fetches a page as soon as the first item of the last is received."""

    @disable_ki_protection
    async def fetch(cursor: C) -> tuple[list[T], C | None]:
        items, following = await fetch_page(cursor)
        return list(items), following

    async def read(buffer: Buffer[T]) -> None:
        cursor = start
        while True:
            items, following = await fetch(cursor)
            left = max(len(items) - 1, 0)
            for item in items:
                buffer.put(item)
            # A reader that waits must not keep alive what was read.
            del items[:]
            item = None  # type: ignore[assignment]
            if following is None:
                return
            cursor = following
            while len(buffer.items) > left:
                await buffer.wait_taken()

    return ReadAhead(read, reads_ahead=False)


def merge_sources(sources: Sequence[RunSource[T]]) -> ReadAhead[T]:
    """Return a source that reads several, each in a task of its own when a worker waits."""
    failures: list[Exception] = []

    async def read_one(source: RunSource[T], buffer: Buffer[T]) -> None:
        try:
            while True:
                await _wait_wanted(buffer)
                await trio.lowlevel.checkpoint()
                buffer.put(await receive_from(source))
        except SourceEnded:
            pass
        except Exception as error:
            failures.append(failure_of(error))
            for other in sources:
                other.interrupt()

    async def read(buffer: Buffer[T]) -> None:
        async with trio.open_nursery() as nursery:
            for source in sources:
                if source.feed is not None:
                    nursery.start_soon(source.feed)
            async with trio.open_nursery() as readers:
                for source in sources:
                    readers.start_soon(read_one, source, buffer)
            buffer.close(failures[0] if failures else None)
            # What the items came from stays open until the last one is through.

    return ReadAhead(read, reads_ahead=True, lingers=True, beneath=sources)


class SourceEnded(Exception):
    """The end of a source, for those who do not know what the source raises there."""


async def receive_from(source: RunSource[T]) -> T:
    """Return the next item, waiting for it.

    Raises:
      SourceEnded: if there is none any more.
      Exception: what a source that fails raises.
    """
    try:
        try:
            return source.receive_nowait()
        except source.blocked:
            return await source.receive()
    except source.ended:
        raise SourceEnded from None
    except trio.Cancelled as cancelled:
        refuse_stray(cancelled)
        raise
