"""Where a stage gets its items: iterables, memory channels, async iterables.

All of them are read lazily, one item at a time, and only when there is room for it.
A source that has an item at once returns it without blocking, which is what makes
a stage fast. A source that has to be awaited is read in a task (see `ReadAhead`).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import describe

from .read_ahead import ReadAhead, read_channel, read_iterator
from .run_state import RunState
from .source import BLOCKED, ENDED, RunSource
from .tracing import Traced

T = TypeVar("T")

AnySource: TypeAlias = Iterable[T] | AsyncIterable[T]
"""What may be given as a source; a memory channel is an async iterable too."""


def open_source(source: AnySource[T]) -> RunSource[T]:
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


def in_order(source: RunSource[Any]) -> RunSource[Any]:
    """Return a source that gives the items to workers in the order in which they came.

    A channel gives each item to a worker that waits for one, and trio runs these workers in any
    order. Other sources give an item to a worker that is running.
    """
    return source.in_order() if isinstance(source, ChannelSource | TracedSource) else source


def _nothing() -> Sequence[object]:
    return ()


def _iterable_ended() -> NoReturn:
    raise StopIteration


def _channel_ended() -> NoReturn:
    raise trio.EndOfChannel


@final
class IterableSource(Generic[T]):
    """A plain iterable: it never makes anyone wait."""

    reads_ahead = has_booked = False
    waiting = blocked = ()
    ended = (StopIteration,)
    feed = None

    def __init__(self, iterable: Iterable[T]) -> None:
        self.abandon = _nothing
        self.receive_nowait: Callable[[], T] = iter(iterable).__next__

    async def receive(self) -> T:
        raise RuntimeError("an iterable never makes anyone wait")

    def let_in(self) -> None:
        """Nobody waits to put an item in."""

    def stop(self) -> None:
        self.receive_nowait = _iterable_ended

    interrupt = stop

    def finish(self) -> None:
        """Nothing is open."""

    async def close(self) -> None:
        """Nothing is open."""


@final
class ChannelSource(Generic[T]):
    """A memory channel. It stays open: items that were not read are left to its owner."""

    reads_ahead = has_booked = False
    waiting = ()
    blocked = BLOCKED
    ended = ENDED
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
        self.receive_nowait = _channel_ended
        for wait in self._waits:
            wait.cancel()

    interrupt = stop

    def finish(self) -> None:
        """Do nothing: the channel is its owner's."""

    async def close(self) -> None:
        """Do nothing: the channel is its owner's."""

    def in_order(self) -> ReadAhead[T]:
        """Return a source that reads the channel in one task."""
        return read_channel(self._channel)


@final
class TracedSource:
    """A source whose items are traced: a listener is told what becomes of each of them.

    Args:
      source: the source.
      trace: makes a traced item from an item of the source.
    """

    def __init__(self, source: RunSource[Any], trace: Callable[[Any], Traced]) -> None:
        self.reads_ahead = source.reads_ahead
        self.has_booked = source.has_booked
        self.waiting = source.waiting
        self.blocked = source.blocked
        self.ended = source.ended
        self.feed = source.feed
        self.abandon = source.abandon
        self.let_in, self.stop = source.let_in, source.stop
        self.interrupt, self.finish, self.close = source.interrupt, source.finish, source.close
        self._source = source
        self._trace = trace

    def receive_nowait(self) -> Traced:
        return self._trace(self._source.receive_nowait())

    async def receive(self) -> Traced:
        return self._trace(await self._source.receive())

    def in_order(self) -> TracedSource:
        """Return a source that gives the items in the order in which they came."""
        return TracedSource(in_order(self._source), self._trace)


@asynccontextmanager
@enable_ki_protection
async def reading(source: RunSource[object], state: RunState) -> AsyncIterator[None]:
    """Read the source of a run while the block runs, if that takes a task; then close it."""
    if source.feed is None:
        yield
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_feed, source.feed, state)
        try:
            yield
        finally:
            source.finish()


async def _feed(feed: Callable[[], Awaitable[object]], state: RunState) -> None:
    try:
        await feed()
    except Exception as error:  # from closing the source; an error from reading goes to a worker
        state.stop(describe(error, item=None, phase="source"), "soon")
