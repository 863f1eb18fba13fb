"""Where items wait between two stages of a pipeline.

An inbox is the source of the later stage. The earlier stage puts an item in as soon as
the later one has room for it in its window, and need not wait until a worker receives
it. So as long as both are busy, no task is woken for an item, which makes an inbox
about ten times as fast as a memory channel with no buffer.

A sender that finds no room waits with its item, in turn. When the later stage has room
again, it takes the item in and wakes the sender. Each place takes one item, so no sender
is woken in vain and none is overtaken.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.buffer import Buffer
from trio_turnstile._engine.counts import Counts, Fate
from trio_turnstile._engine.source import BLOCKED, ENDED
from trio_turnstile._engine.window import WINDOW_SLACK, Window
from trio_turnstile._limiting.either import AnyLimiter

from .gathering import Batch, Gathered, Gatherer, Trigger

T = TypeVar("T")


@attrs.frozen(eq=False)
class _Sender(Generic[T]):
    """A sender that waits for room, with its item."""

    item: T
    task: trio.lowlevel.Task


@final
class Inbox(Generic[T]):
    """Holds the items for which the later stage has room but no worker yet.

    Items are in the books of the later step from the time they are put in.
    """

    reads_ahead = False
    has_booked = True
    blocked = BLOCKED
    ended = ENDED

    def __init__(self, counts: Counts, window: Window) -> None:
        self._counts = counts
        self._window = window
        self._buffer = Buffer[T]()
        self.waiting: deque[_Sender[T]] = deque()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive
        self.abandon = self._buffer.abandon

    @property
    def queued(self) -> int:
        """How many items no worker has received."""
        return len(self._buffer.items)

    def put_nowait(self, item: T) -> bool:
        # Not past those who wait, even if there is room for one of them by now.
        if self.waiting or not self._window.has_room():
            return False
        self._counts.receive()
        self._buffer.put(item)
        return True

    async def put(self, item: T) -> None:
        # The stage may have room although no item has ended: its limit may have been raised.
        self.let_in()
        if self.put_nowait(item):
            return
        sender = _Sender(item, trio.lowlevel.current_task())
        self.waiting.append(sender)

        def abort(_: object) -> trio.lowlevel.Abort:
            # At once, and not when the task runs again. Until then the item could be taken
            # in, and would be both here and cancelled.
            self.waiting.remove(sender)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def let_in(self) -> None:
        """Take in the items of senders, as far as there is room."""
        while self.waiting and self._window.has_room():
            sender = self.waiting.popleft()
            self._counts.receive()
            self._buffer.put(sender.item)
            trio.lowlevel.reschedule(sender.task)

    async def wait_for_room(self) -> None:
        """Do nothing: those who put items in keep books of them."""

    def close(self) -> None:
        self._buffer.close()

    stop = close


@final
class BatchInbox(Generic[T]):
    """Gathers items into batches for the later stage.

    The books count items: each is in hand from the time it is put in.
    """

    reads_ahead = False
    has_booked = True
    waiting = ()
    blocked = BLOCKED
    ended = ENDED

    def __init__(self, batch: Batch, counts: Counts, window: Window) -> None:
        self._gatherer = Gatherer[T](batch)
        self._counts = counts
        self._window = window
        self._buffer = Buffer[Gathered[T]]()
        self._senders = trio.lowlevel.ParkingLot()
        self._news = trio.Event()
        self.receive_nowait = self._buffer.receive_nowait
        self.receive = self._buffer.receive
        self.triggers: dict[Trigger, int] = {}
        """How many batches each trigger has ended."""

    @property
    def queued(self) -> int:
        """How many items no worker has received, in batches or while they are gathered."""
        return len(self._gatherer) + sum(len(batch.items) for batch in self._buffer.items)

    def put_nowait(self, item: T) -> bool:
        if not self._window.has_room():
            self._flush_if_stuck()
            return False
        self._counts.receive()
        due = self._gatherer.due
        try:
            self._serve(self._gatherer.add(item, trio.current_time()))
        except Exception as error:  # of a function of the user's `Batch`
            self._buffer.put(Gathered((item,), "flush", error))
        if not self._window.has_room():
            self._flush_if_stuck()
        if self._gatherer.due < due:
            self._news.set()
        return True

    async def put(self, item: T) -> None:
        while not self.put_nowait(item):
            await self._senders.park()

    async def wait_for_room(self) -> None:
        """Wait until an item would be put in at once."""
        while not self._window.has_room():
            self._flush_if_stuck()
            await self._senders.park()

    def settle(self, fate: Fate) -> None:
        """Book how one item ended."""
        self._counts.settle(fate)
        self._senders.unpark()

    def cancel(self, item: T) -> None:
        """Book that one item was cancelled."""
        self._counts.cancel(item)
        self._senders.unpark()

    def let_in(self) -> None:
        """Do nothing after a batch: senders are woken after each of its items."""

    def close(self) -> None:
        self._serve(self._gatherer.flush())
        self._buffer.close()
        self._news.set()

    stop = close

    @enable_ki_protection
    async def end_old_batches(self) -> None:
        """End batches when they are old enough, until the inbox is closed."""
        while not self._buffer.closed:
            self._news = trio.Event()
            with trio.move_on_at(self._gatherer.due):
                await self._news.wait()
            self._serve(self._gatherer.aged(trio.current_time()))

    def abandon(self) -> list[Gathered[T]]:
        """Give up what is still being gathered, and what nobody received."""
        self._serve(self._gatherer.flush())
        return self._buffer.abandon()

    def _flush_if_stuck(self) -> None:
        # If everything in hand is still being gathered, no item could end and make room, no
        # batch could grow, and the senders would wait for ever.
        if self._counts.in_flight == len(self._gatherer):
            self._serve(self._gatherer.flush())

    def _serve(self, ended: list[Gathered[T]]) -> None:
        for gathered in ended:
            self.triggers[gathered.trigger] = self.triggers.get(gathered.trigger, 0) + 1
            self._buffer.put(gathered)


def batch_window(batch: Batch, counts: Counts, size: int | None, limiter: AnyLimiter) -> Window:
    """Return the window of a stage that takes batches, in items.

    By default there is room for as many batches as there are tokens, and for one being gathered.
    """
    items = batch.size or WINDOW_SLACK

    def default() -> float:
        return (min(limiter.total_tokens, WINDOW_SLACK) + 1) * items

    return Window(counts, size, default, certain=items)
