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
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, NoReturn, Protocol, TypeAlias, TypeVar, final

import trio

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

AnySource: TypeAlias = Iterable[T] | AsyncIterable[T]
"""What may be given as a source; a memory channel is an async iterable too."""


class Source(Protocol[T_co]):
    """What a stage needs of its source."""

    @property
    def take_nowait(self) -> Callable[[], T_co]:
        """Gives an item; raises `trio.WouldBlock`, or at the end one of `ENDED`."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """Whether one item should be fetched while all tokens are in use."""
        ...

    async def take(self) -> T_co:
        """Wait for an item; raises `trio.EndOfChannel` at the end."""
        ...

    def stop(self) -> None:
        """Read no further. Items that were read already are still given."""
        ...

    @property
    def feed(self) -> Callable[[], Awaitable[object]] | None:
        """What has to run in a task meanwhile, if anything."""
        ...


ENDED = (StopIteration, trio.EndOfChannel)
"""What `Source.take_nowait` raises at the end."""


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


def _ended() -> NoReturn:
    raise trio.EndOfChannel


@final
class IterableSource(Generic[T]):
    """A plain iterable: it never makes anyone wait."""

    reads_ahead = False
    feed = None

    def __init__(self, iterable: Iterable[T]) -> None:
        self.take_nowait: Callable[[], T] = iter(iterable).__next__

    async def take(self) -> T:
        raise RuntimeError("an iterator raised trio.WouldBlock: it must give an item or end")

    def stop(self) -> None:
        self.take_nowait = _ended


@final
class ChannelSource(Generic[T]):
    """A memory channel. It stays open: what was not read is left to its owner."""

    reads_ahead = False
    feed = None

    def __init__(self, channel: trio.MemoryReceiveChannel[T]) -> None:
        self.take_nowait: Callable[[], T] = channel.receive_nowait
        self._channel = channel
        self._waits: set[trio.CancelScope] = set()

    async def take(self) -> T:
        with trio.CancelScope() as wait:
            self._waits.add(wait)
            try:
                return await self._channel.receive()
            finally:
                self._waits.remove(wait)
        raise trio.EndOfChannel

    def stop(self) -> None:
        self.take_nowait = _ended
        for wait in self._waits:
            wait.cancel()


@final
class AsyncSource(Generic[T]):
    """An async iterable, read in a task of its own whenever somebody waits for an item."""

    reads_ahead = True

    def __init__(self, iterator: AsyncIterator[T]) -> None:
        self._iterator = iterator
        self._read: deque[T] = deque()
        self._takers = trio.lowlevel.ParkingLot()
        self._wanted = trio.Event()
        self._reading = trio.CancelScope()
        self._failure: Exception | None = None
        self._ended = False

    def take_nowait(self) -> T:
        if self._read:
            return self._read.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._ended:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def take(self) -> T:
        while True:
            try:
                return self.take_nowait()
            except trio.WouldBlock:
                self._wanted.set()
                await self._takers.park()

    def stop(self) -> None:
        self._reading.cancel()

    async def feed(self) -> None:
        """Read one item for each time that somebody waits."""
        try:
            with self._reading:
                await self._read_all()
        except Exception as error:
            self._failure = error
        finally:
            self._ended = True
            self._takers.unpark_all()

    async def _read_all(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                self._read.append(await anext(self._iterator))
                self._takers.unpark()
        except StopAsyncIteration:
            pass
        finally:
            aclose = getattr(self._iterator, "aclose", None)
            if aclose is not None:
                await aclose()
