"""A source and a sink that move only when a test tells them to; and single steps."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar, cast, final

import trio

from trio_turnstile._pipelines.pipeline import Producer
from trio_turnstile._pipelines.processors import Consumer, Processor

T = TypeVar("T")
U = TypeVar("U")


@final
class ProbeSource(Generic[T]):
    """A source that gives what the test gives it, and shows when more is asked for.

    Use it as the source of a `Producer`::

        source = ProbeSource[int]()
        nursery.start_soon((Producer(source) | Consumer(store)).run)
        await source.wait_asked()
        source.give(1)
        source.end()
    """

    def __init__(self) -> None:
        self._given, self._taken = trio.open_memory_channel[T | Exception](float("inf"))
        self._asks = 0
        self._answers = 0
        self._asked = trio.lowlevel.ParkingLot()

    @property
    def asked(self) -> int:
        """How many items have been asked for so far."""
        return self._asks

    async def wait_asked(self) -> None:
        """Wait until an item is asked for that was not given yet."""
        await trio.lowlevel.checkpoint()
        while self._asks <= self._answers:
            await self._asked.park()

    def give(self, item: T) -> None:
        """Give one item, now or when it is asked for."""
        self._answers += 1
        self._given.send_nowait(item)

    def fail(self, error: Exception) -> None:
        """Raise ``error`` from the source."""
        self._answers += 1
        self._given.send_nowait(error)

    def end(self) -> None:
        """End the source after what was given."""
        self._given.close()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        self._asks += 1
        self._asked.unpark_all()
        try:
            answer = await self._taken.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        if isinstance(answer, Exception):
            raise answer
        return answer


@final
class ProbeSink(Generic[T]):
    """A sink that takes an item only when the test asks for one.

    Use it as the function of a `Consumer`, and ask with `receive` or `refuse`.
    """

    def __init__(self) -> None:
        self._offered: deque[tuple[T, trio.Event, list[Exception]]] = deque()
        self._news = trio.lowlevel.ParkingLot()

    @property
    def offered(self) -> int:
        """How many items are waiting to be asked for."""
        return len(self._offered)

    async def __call__(self, item: T) -> None:
        """Wait until the test asks for the item."""
        offer = (item, trio.Event(), list[Exception]())
        self._offered.append(offer)
        self._news.unpark()
        try:
            await offer[1].wait()
        finally:
            if offer in self._offered:
                self._offered.remove(offer)
        if offer[2]:
            raise offer[2][0]

    async def receive(self) -> T:
        """Take one item, waiting for it, and return it."""
        item, done, _ = await self._next()
        done.set()
        return item

    async def refuse(self, error: Exception) -> T:
        """Have the sink raise ``error`` for one item, waiting for it; return the item."""
        item, done, errors = await self._next()
        errors.append(error)
        done.set()
        return item

    async def _next(self) -> tuple[T, trio.Event, list[Exception]]:
        await trio.lowlevel.checkpoint()
        while not self._offered:
            await self._news.park()
        return self._offered.popleft()


async def run_one(step: Processor[T, U] | Consumer[T], item: T) -> list[U]:
    """Run one item through a step, or several joined ones, and return what comes out.

    Batches need not fill up and no timer has to run out, as the source ends at once.

    Raises:
      Aborted: if the item failed and the policies do not say otherwise.
    """
    if isinstance(step, Consumer):
        await (Producer([item]) | step).run()
        return []
    async with (Producer([item]) | step).open() as results:
        return [result async for result in cast("Any", results)]
