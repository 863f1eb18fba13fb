"""Inboxes: how items get from one stage of a pipeline into the next.

An inbox is the source of the later stage. The earlier one puts an item in as soon
as the later has room for it in its window, and need not wait until somebody takes
it; so as long as both are busy no task is woken for an item. That is what makes it
some ten times faster than a memory channel with no buffer.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar, final

import trio

from trio_turnstile._engine.counts import Counts, Fate
from trio_turnstile._engine.pool import WINDOW_SLACK, WorkerPool
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._limiting.either import AnyLimiter

from .gathering import Batch, Gathered, Gatherer, Trigger

T = TypeVar("T")


@final
class Inbox(Generic[T]):
    """Holds the items for which the later stage has room but no worker yet."""

    reads_ahead = False
    feed = None
    pool: WorkerPool[T]
    """The pool whose source it is; set by whoever makes both."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._closed = False
        self._takers = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._items)

    def put_nowait(self, item: T) -> bool:
        if self.pool.on_room is not None or not self._has_room():
            return False
        self._items.append(item)
        if self._takers:
            self._takers.unpark()
        return True

    async def put(self, item: T) -> None:
        while not self.put_nowait(item):
            self.pool.on_room = self._let_in
            await self._senders.park()

    async def wait_for_room(self) -> None:
        """Not needed here: who puts items in keeps books of them."""

    def close(self) -> None:
        self._closed = True
        self._takers.unpark_all()

    stop = close

    def receive_nowait(self) -> T:
        if self._items:
            return self._items.popleft()
        if self._closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> T:
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._takers.park()

    def abandon(self) -> list[T]:
        """Give up what nobody took."""
        left, self._items = list(self._items), deque()
        return left

    def _has_room(self) -> bool:
        in_hand = len(self._items) + self.pool.counts.in_flight
        return in_hand < self.pool.certain_room or in_hand < self.pool.window

    def _let_in(self) -> None:
        if self._has_room():
            self.pool.on_room = None
            self._senders.unpark_all()


@final
class BatchInbox(Generic[T]):
    """Gathers items into batches, which are what the later stage takes.

    Here the books are kept by the item: each is in hand from when it is put in.
    """

    reads_ahead = False

    def __init__(
        self,
        batch: Batch,
        counts: Counts,
        state: RunState,
        *,
        window: int | None,
        limiter: AnyLimiter,
    ) -> None:
        self._gatherer = Gatherer[T](batch)
        self._size = batch.size or WINDOW_SLACK
        self._counts = counts
        self._state = state
        self._window = window
        self._limiter = limiter
        self._ready: deque[Gathered[T]] = deque()
        self._closed = False
        self._takers = trio.lowlevel.ParkingLot()
        self._senders = trio.lowlevel.ParkingLot()
        self._news = trio.Event()
        self.triggers: dict[Trigger, int] = {}
        """How many batches each trigger has ended."""

    def _has_room(self) -> bool:
        window: float | None = self._window
        if window is None:
            window = (min(self._limiter.total_tokens, WINDOW_SLACK) + 1) * self._size
        return self._counts.in_flight < window

    def put_nowait(self, item: T) -> bool:
        if not self._has_room():
            self._flush_if_stuck()
            return False
        self._counts.received += 1
        self._counts.in_flight += 1
        due = self._gatherer.due
        try:
            self._serve(self._gatherer.add(item, trio.current_time()))
        except Exception as error:  # of the user's key or weight function
            self._ready.append(Gathered((item,), "flush", error))
            self._takers.unpark()
        if not self._has_room():
            self._flush_if_stuck()
        if self._gatherer.due < due:
            self._news.set()
        return True

    async def put(self, item: T) -> None:
        while not self.put_nowait(item):
            await self._senders.park()

    async def wait_for_room(self) -> None:
        """Wait until an item would be put in at once."""
        while not self._has_room():
            self._flush_if_stuck()
            await self._senders.park()

    def settle(self, fate: Fate) -> None:
        """Book what became of one item."""
        self._counts.in_flight -= 1
        self._counts.fates[fate] += 1
        self._senders.unpark()

    def close(self) -> None:
        self._serve(self._gatherer.flush())
        self._closed = True
        self._takers.unpark_all()
        self._news.set()

    stop = close

    def receive_nowait(self) -> Gathered[T]:
        if self._ready:
            return self._ready.popleft()
        if self._closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> Gathered[T]:
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._takers.park()

    async def feed(self) -> None:
        """Flush batches when they are old enough."""
        while not self._closed:
            self._news = trio.Event()
            with trio.move_on_at(self._gatherer.due):
                await self._news.wait()
            self._serve(self._gatherer.aged(trio.current_time()))

    def abandon(self) -> list[T]:
        """Give up what is still being gathered, and what nobody took."""
        self._serve(self._gatherer.flush())
        left = [item for gathered in self._ready for item in gathered.items]
        self._ready.clear()
        return left

    def _flush_if_stuck(self) -> None:
        # If nothing is being handled that would make room, no batch can grow on.
        if self._counts.in_flight == len(self._gatherer):
            self._serve(self._gatherer.flush())

    def _serve(self, ended: list[Gathered[T]]) -> None:
        for gathered in ended:
            self.triggers[gathered.trigger] = self.triggers.get(gathered.trigger, 0) + 1
            self._ready.append(gathered)
            self._takers.unpark()
