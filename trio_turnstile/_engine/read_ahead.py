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

from trio_turnstile._util import refuse_stray, stray

from .buffer import Buffer, failure_of
from .source import BLOCKED, ENDED, RunSource

C = TypeVar("C")
T = TypeVar("T")
A = TypeVar("A")
R = TypeVar("R")

Read: TypeAlias = Callable[["ReadAhead[T]"], Awaitable[object]]
"""Reads a source, until its end or until it is dismissed."""


@final
class ReadAhead(Generic[T]):
    """A source that has to be awaited: it is read in a task of its own, into a buffer.

    An async generator may hold open what its items need, so it *lingers*: it is closed when the
    last item is through, and no read is given up before that. It may also hold a cancel scope
    open, which is a child of the scope round the reading, so it is closed inside that scope.

    Args:
      read: reads the source to its end.
      reads_ahead: whether a worker should wait for an item while all tokens are in use.
      aclose: closes the source.
      lingers: whether it lingers. If not, `stop` gives up a read that is under way.
      beneath: the sources that are read, which may have read ahead themselves. Their items still
        come after `stop`: these sources are read until they end, which is soon.
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
        self.buffer = Buffer[T]()
        self._read = read
        self._aclose = aclose
        self._lingers = lingers
        self._beneath = beneath
        self._reading = trio.CancelScope()
        self._awaits_source = False
        self._finished = trio.Event()
        self.receive_nowait = self.buffer.receive_nowait
        self.receive = self.buffer.receive

    def abandon(self) -> list[object]:
        """Give up what was read and not received, here and in the sources beneath."""
        left = [item for source in self._beneath for item in source.abandon()]
        return [*self.buffer.abandon(), *left]

    def let_in(self) -> None:
        """Nobody waits to put an item in."""

    def stop(self) -> None:
        for source in self._beneath:
            source.stop()
        if self._beneath:
            return
        self.buffer.close()
        if not self._lingers:
            self._give_up()

    def interrupt(self) -> None:
        self.buffer.close()
        for source in self._beneath:
            source.interrupt()
        self._give_up()

    def finish(self) -> None:
        self.stop()
        for source in self._beneath:
            source.finish()
        self._give_up()
        self.buffer.dismiss()
        self._finished.set()

    def _give_up(self) -> None:
        """Cancel a read that is under way; without one, there is nothing to cancel."""
        if self._awaits_source:
            self._reading.cancel()

    @disable_ki_protection
    async def get(self, function: Callable[[A], Awaitable[R]], argument: A) -> R:
        """Await something from the source, open to Ctrl-C."""
        self._awaits_source = True
        try:
            return await function(argument)
        finally:
            self._awaits_source = False

    @enable_ki_protection
    async def feed(self) -> None:
        """Read until the end, a failure, or `stop`; wait for `finish`, and close the source."""
        try:
            with self._reading:
                try:
                    await self._read_to_the_end()
                    if self._lingers:
                        await self._finished.wait()
                finally:
                    if self._lingers:
                        await self.close()
            await self._finished.wait()
        finally:
            await self.close()

    async def _read_to_the_end(self) -> None:
        try:
            await self._read(self)
        except Exception as error:
            self.buffer.close(error)
        except trio.Cancelled as cancelled:
            error_of_source = stray(cancelled)
            if error_of_source is None:
                raise
            self.buffer.close(error_of_source)
        finally:
            self.buffer.close()

    async def close(self) -> None:
        for source in self._beneath:
            await source.close()
        aclose, self._aclose = self._aclose, None
        if aclose is not None:
            await aclose()


def read_iterator(iterator: AsyncIterator[T]) -> ReadAhead[T]:
    """Return a source that reads one item each time a worker waits for one."""

    async def read(ahead: ReadAhead[T]) -> None:
        with suppress(StopAsyncIteration):
            while await ahead.buffer.wait_wanted():
                ahead.buffer.put(await ahead.get(anext, iterator))

    return ReadAhead(
        read,
        reads_ahead=True,
        aclose=partial(_close_iterator, iterator),
        lingers=isinstance(iterator, AsyncGenerator),
    )


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


def read_channel(channel: trio.MemoryReceiveChannel[T]) -> ReadAhead[T]:
    """Return a source that reads one item each time a worker waits for one."""

    async def receive(channel: trio.MemoryReceiveChannel[T]) -> T:
        return await channel.receive()

    async def read(ahead: ReadAhead[T]) -> None:
        with suppress(trio.EndOfChannel):
            while await ahead.buffer.wait_wanted():
                ahead.buffer.put(await ahead.get(receive, channel))

    return ReadAhead(read, reads_ahead=False)


def read_pages(
    fetch_page: Callable[[C], Awaitable[tuple[Iterable[T], C | None]]], start: C
) -> ReadAhead[T]:
    """Return a source that fetches the next page once the first item of a page is received."""

    async def fetch(cursor: C) -> tuple[list[T], C | None]:
        items, following = await fetch_page(cursor)
        return list(items), following

    async def read(ahead: ReadAhead[T]) -> None:
        cursor, buffer = start, ahead.buffer
        while not buffer.closed:
            items, following = await ahead.get(fetch, cursor)
            left = max(len(items) - 1, 0)
            for item in items:
                buffer.put(item)
            # While the reader waits, it must not keep alive what it has read.
            del items[:]
            item = None  # type: ignore[assignment]
            if following is None:
                return
            cursor = following
            await buffer.wait_left(left)

    return ReadAhead(read, reads_ahead=False)


def merge_sources(sources: Sequence[RunSource[T]]) -> ReadAhead[T]:
    """Return a source that reads several, each in a task of its own, when a worker waits."""
    failures: list[Exception] = []

    @enable_ki_protection
    async def read_one(source: RunSource[T], buffer: Buffer[T]) -> None:
        try:
            while await buffer.wait_wanted():
                if source.feed is None:  # it may never make anyone wait
                    await trio.lowlevel.checkpoint()
                buffer.put(await receive_from(source))
        except SourceEnded:
            pass
        except Exception as error:
            failures.append(failure_of(error))
            for other in sources:
                other.interrupt()

    async def read(ahead: ReadAhead[T]) -> None:
        async with trio.open_nursery() as nursery:
            for source in sources:
                if source.feed is not None:
                    nursery.start_soon(source.feed)
            async with trio.open_nursery() as readers:
                for source in sources:
                    readers.start_soon(read_one, source, ahead.buffer)
            ahead.buffer.close(failures[0] if failures else None)
            # What the items came from stays open until the last item is through.

    return ReadAhead(read, reads_ahead=True, lingers=True, beneath=sources)


class SourceEnded(Exception):
    """The end of a source, for callers that do not know what the source raises there."""


async def receive_from(source: RunSource[T]) -> T:
    """Return the next item, waiting for it.

    Raises:
      SourceEnded: if there are no more items.
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
