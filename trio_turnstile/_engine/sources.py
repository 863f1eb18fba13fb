"""Where a stage gets its items: iterables, memory channels, async iterables.

All of them are read lazily, one item at a time, only when there is room for it.
A source that can tell at once gives an item without blocking, which is what makes
a stage fast; one that cannot, raises `trio.WouldBlock` and is waited for.

An async iterable is read in one task of its own. It may be an async generator
that holds a nursery or a cancel scope open across its ``yield``, and trio needs
these entered and left in one task (:pep:`789`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from typing import Generic, NoReturn, Protocol, TypeAlias, TypeVar, cast, final

import trio

C = TypeVar("C")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

AnySource: TypeAlias = Iterable[T] | AsyncIterable[T]
"""What may be given as a source; a memory channel is an async iterable too."""


class Source(Protocol[T_co]):
    """What a stage needs of its source."""

    @property
    def receive_nowait(self) -> Callable[[], T_co]:
        """Gives an item; raises `trio.WouldBlock`, or at the end one of `ENDED`."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """Whether one item should be fetched while all tokens are in use."""
        ...

    @property
    def receive(self) -> Callable[[], Awaitable[T_co]]:
        """Waits for an item; raises `trio.EndOfChannel` at the end."""
        ...

    def stop(self) -> None:
        """Read no further. Items that were read already are still given."""
        ...

    @property
    def abandon(self) -> Callable[[], Sequence[object]]:
        """Gives up what was read and not taken, and returns it."""
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
        return AsyncSource(aiter(source))
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

    reads_ahead = False
    feed = None

    def __init__(self, iterable: Iterable[T]) -> None:
        self.abandon = _nothing
        self.receive_nowait: Callable[[], T] = iter(iterable).__next__

    async def receive(self) -> T:
        raise RuntimeError("an iterator raised trio.WouldBlock: it must give an item or end")

    def stop(self) -> None:
        self.receive_nowait = _ended


@final
class ChannelSource(Generic[T]):
    """A memory channel. It stays open: what was not read is left to its owner."""

    reads_ahead = False
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

    def stop(self) -> None:
        self.receive_nowait = _ended
        for wait in self._waits:
            wait.cancel()


@final
class _Buffer(Generic[T]):
    """Items that were read and not yet taken, between readers and takers."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._failure: Exception | None = None
        self._ended = False
        self._takers = trio.lowlevel.ParkingLot()
        self._readers = trio.lowlevel.ParkingLot()

    def receive_nowait(self) -> T:
        if self._items:
            self._readers.unpark_all()
            return self._items.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._ended:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> T:
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                self._readers.unpark_all()
                await self._takers.park()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._takers.unpark()

    def abandon(self) -> list[T]:
        left, self._items = list(self._items), deque()
        return left

    def end(self, failure: Exception | None = None) -> None:
        self._failure = self._failure or failure
        self._ended = True
        self._takers.unpark_all()

    async def wait_wanted(self) -> None:
        """Wait until more takers wait than there are items."""
        while len(self._takers) <= len(self._items):
            await self._readers.park()

    async def wait_below(self, items: int) -> None:
        """Wait until no more than so many items are left."""
        while len(self._items) > items:
            await self._readers.park()


@final
class AsyncSource(Generic[T]):
    """An async iterable, read in a task of its own whenever somebody waits for an item."""

    reads_ahead = True

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        self._iterator = iterator
        self._buffer = _Buffer[T]()
        self._reading = trio.CancelScope()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive
        self.abandon = self._buffer.abandon

    def stop(self) -> None:
        self._reading.cancel()

    async def feed(self) -> None:
        """Read one item for each time that somebody waits."""
        try:
            with self._reading:
                await self._read_all()
        except Exception as error:
            self._buffer.end(error)
        finally:
            self._buffer.end()

    async def _read_all(self) -> None:
        try:
            while True:
                await self._buffer.wait_wanted()
                self._buffer.put(await anext(self._iterator))
        except StopAsyncIteration:
            pass
        finally:
            aclose = getattr(self._iterator, "aclose", None)
            if aclose is not None:
                await aclose()


@final
class PageSource(Generic[C, T]):
    """Pages that a function fetches one after the other, one ahead of the items taken."""

    reads_ahead = False

    def __init__(
        self, fetch_page: Callable[[C], Awaitable[tuple[Iterable[T], C | None]]], start: C
    ) -> None:
        self._fetch_page = fetch_page
        self._start = start
        self._buffer = _Buffer[T]()
        self._reading = trio.CancelScope()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive
        self.abandon = self._buffer.abandon

    def stop(self) -> None:
        self._reading.cancel()

    async def feed(self) -> None:
        """Fetch the next page as soon as the first item of the last one is wanted."""
        try:
            with self._reading:
                await self._fetch_all()
        except Exception as error:
            self._buffer.end(error)
        finally:
            self._buffer.end()

    async def _fetch_all(self) -> None:
        cursor: C | None = self._start
        while cursor is not None:
            fetched, cursor = await self._fetch_page(cursor)
            items = list(fetched)
            for item in items:
                self._buffer.put(item)
            await self._buffer.wait_below(max(len(items) - 1, 0))


@final
class MergedSource(Generic[T]):
    """Several sources, each read in a task of its own whenever somebody waits for an item."""

    reads_ahead = True

    def __init__(self, sources: Sequence[Source[T]]) -> None:
        self._sources = sources
        self._buffer = _Buffer[T]()
        self._reading = trio.CancelScope()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive

    def abandon(self) -> list[T]:
        left = [cast("T", item) for source in self._sources for item in source.abandon()]
        return self._buffer.abandon() + left

    def stop(self) -> None:
        self._reading.cancel()

    async def feed(self) -> None:
        """Read all the sources until all have ended, or one has failed."""
        try:
            with self._reading:
                async with trio.open_nursery() as nursery:
                    for source in self._sources:
                        if source.feed is not None:
                            nursery.start_soon(source.feed)
                        nursery.start_soon(self._read, source)
        finally:
            self._buffer.end()

    async def _read(self, source: Source[T]) -> None:
        try:
            while True:
                await self._buffer.wait_wanted()
                await trio.lowlevel.checkpoint()
                try:
                    item = source.receive_nowait()
                except trio.WouldBlock:
                    item = await source.receive()
                self._buffer.put(item)
        except ENDED:
            pass
        except Exception as error:
            self._buffer.end(error)
            self.stop()
