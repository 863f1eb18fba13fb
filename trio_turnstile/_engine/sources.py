"""Where a stage gets its items: iterables, memory channels, async iterables, pages.

All of them are read lazily, one item at a time, only when there is room for it.
A source that can tell at once gives an item without blocking, which is what makes
a stage fast. One that cannot raises `trio.WouldBlock`, and is waited for.

What has to be awaited is read in one task of its own. An async iterable may be an async
generator that holds a nursery or a cancel scope open across its ``yield``, and trio needs
these to be entered and left in one task (:pep:`789`).
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
    Sized,
)
from typing import Generic, NoReturn, Protocol, TypeAlias, TypeVar, final

import trio

from .buffer import Buffer

C = TypeVar("C")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

AnySource: TypeAlias = Iterable[T] | AsyncIterable[T]
"""What may be given as a source; a memory channel is an async iterable too."""


class Source(Protocol[T_co]):
    """What a stage needs of its source."""

    @property
    def receive_nowait(self) -> Callable[[], T_co]:
        """Gives an item; raises `trio.WouldBlock`, or at the end one of `ENDED`.

        It is an attribute that `stop` replaces, and not a method with a test in it: it is
        called for every item, and a method made a stage of no-ops 1.06 times as slow.
        """
        ...

    @property
    def receive(self) -> Callable[[], Awaitable[T_co]]:
        """Waits for an item; raises `trio.EndOfChannel` at the end."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """Whether one item should be fetched while all tokens are in use."""
        ...

    @property
    def has_booked(self) -> bool:
        """Whether its items are in the books already when a worker receives them."""
        ...

    @property
    def waiting(self) -> Sized:
        """What waits for room; while there is any, `let_in` is called after each item."""
        ...

    def let_in(self) -> None:
        """Take in what has waited for room."""
        ...

    def stop(self) -> None:
        """Read no further. Items that were read already are still given."""
        ...

    @property
    def abandon(self) -> Callable[[], Sequence[object]]:
        """Gives up what was read and not received, and returns it."""
        ...

    @property
    def feed(self) -> Callable[[], Awaitable[object]] | None:
        """What has to run in a task meanwhile, if anything."""
        ...


ENDED = (StopIteration, trio.EndOfChannel)
"""What `Source.receive_nowait` raises at the end."""


def open_source(source: AnySource[T]) -> Source[T]:
    """Return the way to read ``source``.

    Raises:
      TypeError: if it is neither iterable nor async iterable.
    """
    if isinstance(source, trio.MemoryReceiveChannel):
        return ChannelSource(source)
    if isinstance(source, AsyncIterable):
        return read_iterator(aiter(source))
    if isinstance(source, Iterable):
        return IterableSource(source)
    raise TypeError(
        "a source must be an iterable, an async iterable or a memory receive channel, "
        f"not {source!r}"
    )


def _nothing() -> Sequence[object]:
    return ()


def _ended() -> NoReturn:
    raise trio.EndOfChannel


@final
class IterableSource(Generic[T]):
    """A plain iterable: it never makes anyone wait."""

    reads_ahead = has_booked = False
    waiting = ()
    feed = None

    def __init__(self, iterable: Iterable[T]) -> None:
        self.abandon = _nothing
        self.receive_nowait: Callable[[], T] = iter(iterable).__next__

    async def receive(self) -> T:
        raise RuntimeError("an iterator raised trio.WouldBlock: it must give an item or end")

    def let_in(self) -> None:
        """Nobody waits to put an item in."""

    def stop(self) -> None:
        self.receive_nowait = _ended


@final
class ChannelSource(Generic[T]):
    """A memory channel. It stays open: what was not read is left to its owner."""

    reads_ahead = has_booked = False
    waiting = ()
    feed = None

    def __init__(self, channel: trio.MemoryReceiveChannel[T]) -> None:
        self.abandon = _nothing
        self.receive_nowait: Callable[[], T] = channel.receive_nowait
        self._channel = channel
        self._waits: set[trio.CancelScope] = set()

    async def receive(self) -> T:
        with trio.CancelScope() as wait:
            self._waits.add(wait)
            try:
                return await self._channel.receive()
            finally:
                self._waits.remove(wait)
        raise trio.EndOfChannel

    def let_in(self) -> None:
        """Nobody waits to put an item in."""

    def stop(self) -> None:
        self.receive_nowait = _ended
        for wait in self._waits:
            wait.cancel()


Read: TypeAlias = Callable[[Buffer[T]], Awaitable[object]]
"""Reads a source into a buffer, until its end."""


@final
class ReadAhead(Generic[T]):
    """Whatever has to be awaited: it is read in a task of its own, into a buffer.

    Args:
      read: reads the source to its end. `stop` cancels it.
      reads_ahead: whether a worker should wait for an item while all tokens are in use.
      beneath: the sources that are read, which may have read ahead themselves.
    """

    has_booked = False
    waiting = ()

    def __init__(
        self, read: Read[T], *, reads_ahead: bool, beneath: Sequence[Source[T]] = ()
    ) -> None:
        self.reads_ahead = reads_ahead
        self._read = read
        self._beneath = beneath
        self._buffer = Buffer[T]()
        self._reading = trio.CancelScope()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive

    def abandon(self) -> list[object]:
        """Give up what was read and not received, here and beneath."""
        left = [item for source in self._beneath for item in source.abandon()]
        return [*self._buffer.abandon(), *left]

    def let_in(self) -> None:
        """Nobody waits to put an item in."""

    def stop(self) -> None:
        self._reading.cancel()

    async def feed(self) -> None:
        """Read until the end, a failure, or `stop`."""
        try:
            with self._reading:
                await self._read(self._buffer)
        except Exception as error:
            self._buffer.close(error)
        finally:
            self._buffer.close()


async def _wait_wanted(buffer: Buffer[T]) -> None:
    """Wait until more receivers wait than there are items."""
    while len(buffer.receivers) <= len(buffer.items):
        await buffer.wait_taken()


def read_iterator(iterator: AsyncIterator[T]) -> Source[T]:
    """Return a source that reads one item for each time that a worker waits."""

    async def read(buffer: Buffer[T]) -> None:
        try:
            while True:
                await _wait_wanted(buffer)
                buffer.put(await anext(iterator))
        except StopAsyncIteration:
            pass
        finally:
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()

    return ReadAhead(read, reads_ahead=True)


def read_pages(
    fetch_page: Callable[[C], Awaitable[tuple[Iterable[T], C | None]]], start: C
) -> Source[T]:
    """Return a source that fetches a page as soon as the first item of the last is received."""

    async def read(buffer: Buffer[T]) -> None:
        cursor: C | None = start
        while cursor is not None:
            fetched, cursor = await fetch_page(cursor)
            items = list(fetched)
            for item in items:
                buffer.put(item)
            while len(buffer.items) > max(len(items) - 1, 0):
                await buffer.wait_taken()

    return ReadAhead(read, reads_ahead=False)


def merge_sources(sources: Sequence[Source[T]]) -> Source[T]:
    """Return a source that reads several, each in a task of its own when a worker waits."""

    async def read_one(source: Source[T], buffer: Buffer[T], failed: trio.CancelScope) -> None:
        try:
            while True:
                await _wait_wanted(buffer)
                await trio.lowlevel.checkpoint()
                try:
                    item = source.receive_nowait()
                except trio.WouldBlock:
                    item = await source.receive()
                buffer.put(item)
        except ENDED:
            pass
        except Exception as error:
            buffer.close(error)
            failed.cancel()

    async def read(buffer: Buffer[T]) -> None:
        async with trio.open_nursery() as nursery:
            for source in sources:
                if source.feed is not None:
                    nursery.start_soon(source.feed)
                nursery.start_soon(read_one, source, buffer, nursery.cancel_scope)

    return ReadAhead(read, reads_ahead=True, beneath=sources)
