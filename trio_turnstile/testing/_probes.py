"""A source and a sink that a test controls item by item, and a way to run one item."""

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
    """A source that returns what the test gives it, and shows when the run asks for more.

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
        """How many times the run has asked for an item."""
        return self._asks

    async def wait_asked(self) -> None:
        """Wait until the run asks for an item that the test has not given yet.

        It always checkpoints. If it is cancelled, nothing changes.
        """
        await trio.lowlevel.checkpoint()
        while self._asks <= self._answers:
            await self._asked.park()

    def give(self, item: T) -> None:
        """Give one item. It is kept until the run asks for it.

        Args:
          item: the item.
        """
        self._answers += 1
        self._given.send_nowait(item)

    def fail(self, error: Exception) -> None:
        """Raise an error from the source, after the items that were given before.

        Args:
          error: the error.
        """
        self._answers += 1
        self._given.send_nowait(error)

    def end(self) -> None:
        """End the source, after the items that were given before."""
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

    Use it as the function of a `Consumer`. The test asks with `receive` or `refuse`.
    """

    def __init__(self) -> None:
        self._offered: deque[tuple[T, trio.Event, list[Exception]]] = deque()
        self._news = trio.lowlevel.ParkingLot()

    @property
    def offered(self) -> int:
        """How many items wait to be taken."""
        return len(self._offered)

    async def __call__(self, item: T) -> None:
        """Wait until the test takes or refuses the item.

        If it is cancelled, the item is no longer offered.
        """
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
        """Wait for an item, take it and return it. If cancelled, it takes none."""
        item, done, _ = await self._next()
        done.set()
        return item

    async def refuse(self, error: Exception) -> T:
        """Wait for an item, make the sink raise an error for it, and return the item.

        If cancelled, it refuses none.

        Args:
          error: the error that the sink raises.
        """
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
    """Run one item through a step, or through several joined ones.

    The source ends after the item, so a batch does not wait until it is full or old.
    If this is cancelled, the item is cancelled.

    Args:
      step: the step, or steps joined by ``|``.
      item: the item.

    Returns:
      The results; an empty list for a consumer.

    Raises:
      Aborted: if the item failed and no policy handled the error.
    """
    if isinstance(step, Consumer):
        await (Producer([item]) | step).run()
        return []
    async with (Producer([item]) | step).open() as results:
        return [result async for result in cast("Any", results)]
