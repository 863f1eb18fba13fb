"""Sources of every kind that record their items and whether they were closed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import attrs
import trio

from trio_turnstile import Producer, Turnstile

T = TypeVar("T")

Kind: TypeAlias = Literal["iterable", "generator", "channel", "managed", "pages"]

FOR_PHASES: tuple[Kind, ...] = ("iterable", "generator", "channel")
"""The kinds that `run_phases` takes."""

FOR_PIPELINES: tuple[Kind, ...] = (*FOR_PHASES, "managed", "pages")
"""The kinds that a `Producer` takes."""


class SourceError(Exception):
    """The error of a source that fails."""


@attrs.define(eq=False)
class TrialSource(Generic[T]):
    """A source of some kind. It fails before the item with index ``fails_at``, if any."""

    kind: Kind
    items: list[T]
    fails_at: int | None
    seed: int
    room: int = 0
    """The buffer of a channel."""
    left: list[T] = attrs.field(factory=list)
    """The items that have left the source, oldest first."""
    opened: int = 0
    closed: int = 0
    failed: bool = False
    _receive: trio.MemoryReceiveChannel[T] | None = None

    # ---- what happened ----

    @property
    def open(self) -> int:
        """How many times it was opened and not closed again."""
        return self.opened - self.closed

    @property
    def lost(self) -> bool:
        """Whether items may have been lost in a channel whose receiver was closed."""
        return self.failed and self.kind == "channel"

    def given(self) -> list[T]:
        """Return the items that were taken from it; those still in a channel do not count."""
        if self._receive is None:
            return self.left
        return self.left[: len(self.left) - self._receive.statistics().current_buffer_used]

    # ---- how it is read ----

    def source(self, turnstile: Turnstile) -> Any:
        """Return something that `run_phases` can read."""
        if self.kind == "iterable":
            return self._iterate()
        if self.kind == "generator":
            return self._generate()
        send, self._receive = trio.open_memory_channel[T](self.room)

        async def fill(_: Turnstile) -> None:
            await self._fill(send)

        turnstile.watch(fill)
        return self._receive

    def producer(self, turnstile: Turnstile) -> Producer[T]:
        """Return a producer that reads it."""
        if self.kind == "pages":
            return Producer.pages(self._fetch, 0)
        if self.kind == "managed":
            return Producer(self._managed)
        return Producer(self.source(turnstile))

    def _pause(self, index: int) -> float:
        return random.Random(f"{self.seed} {index}").choice([0, 0, 0, 0.1, 1])

    def _fail_before(self, index: int) -> None:
        if index == self.fails_at:
            self.failed = True
            raise SourceError(index)

    def _iterate(self) -> Iterator[T]:
        for index, item in enumerate(self.items):
            self._fail_before(index)
            self.left.append(item)
            yield item
        self._fail_before(len(self.items))

    async def _generate(self) -> AsyncIterator[T]:
        self.opened += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                for index, item in enumerate(self.items):
                    await trio.sleep(self._pause(index))
                    self._fail_before(index)
                    self.left.append(item)
                    yield item
                self._fail_before(len(self.items))
                nursery.cancel_scope.cancel()
        finally:
            self.closed += 1

    @asynccontextmanager
    async def _managed(self) -> AsyncIterator[Iterator[T]]:
        await trio.lowlevel.checkpoint()
        self.opened += 1
        try:
            yield self._iterate()
        finally:
            self.closed += 1

    async def _fetch(self, begin: int) -> tuple[list[T], int | None]:
        end = begin + random.Random(f"{self.seed} page {begin}").randrange(1, 5)
        self.opened += 1
        try:
            await trio.sleep(self._pause(begin))
            for index in range(begin, min(end, len(self.items) + 1)):
                self._fail_before(index)
        finally:
            self.closed += 1
        page = self.items[begin:end]
        self.left += page
        return page, end if end < len(self.items) else None

    async def _fill(self, send: trio.MemorySendChannel[T]) -> None:
        with send:
            for index, item in enumerate(self.items):
                await trio.sleep(self._pause(index))
                if index == self.fails_at:
                    assert self._receive is not None
                    self.failed = True
                    self._receive.close()
                    return
                try:
                    await send.send(item)
                except trio.BrokenResourceError:
                    return
                self.left.append(item)


def open_now(sources: list[TrialSource[Any]]) -> int:
    """Return how many sources are open."""
    return sum(source.open for source in sources)
