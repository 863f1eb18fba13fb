"""`Buffer`: items between those who put them in and the workers that receive them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar, final

import trio

T = TypeVar("T")


@final
class ReadFailed(Exception):
    """Reading failed; the cause is what it raised.

    It wraps whatever a user's source raises, because that may have a type that marks the end.
    """


def failure_of(error: Exception) -> Exception:
    """Return what reading a user's source raised: ``error``, or the error that it wraps."""
    cause = error.__cause__
    if isinstance(error, ReadFailed) and isinstance(cause, Exception):
        error = cause
    if not isinstance(error, trio.WouldBlock):
        return error
    told = RuntimeError("a source raised trio.WouldBlock: it must return an item or end")
    told.__cause__ = error
    return told


@final
class Buffer(Generic[T]):
    """Items in the order in which they came, without a bound of its own."""

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        """The items that nobody has received yet."""
        self.closed = False
        """Whether no more will come."""
        self.receiving = 0
        """How many wait for an item, or were woken for one and have not run since."""
        self.dismissed = False
        """Whether those who fill the buffer should end."""
        self._receivers = trio.lowlevel.ParkingLot()
        self._readers = trio.lowlevel.ParkingLot()
        self._enough = -1
        """Readers are woken when no more than this many items are left."""
        self._failure: Exception | None = None
        self._late: list[T] = []

    def put(self, item: T) -> None:
        """Add an item, and wake one receiver. If the buffer is closed, nobody receives the item."""
        if self.closed:
            self._late.append(item)
            return
        self.items.append(item)
        if self._receivers:
            self._receivers.unpark()

    def close(self, failure: Exception | None = None) -> None:
        """Note that no more will come; receivers get the first failure after the last item."""
        if self._failure is None:
            self._failure = failure
        self.closed = True
        self._receivers.unpark_all()
        self._wake_readers()

    def receive_nowait(self) -> T:
        """Return the next item.

        Raises:
          trio.WouldBlock: if there is none yet.
          trio.EndOfChannel: if none will come any more.
          ReadFailed: if the buffer was closed with a failure, once.
        """
        if self.items:
            if len(self.items) <= self._enough + 1:
                self._wake_readers()
            return self.items.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise ReadFailed from failure
        if self.closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> T:
        """Wait for the next item, as `receive_nowait` returns it."""
        self.receiving += 1
        try:
            while True:
                try:
                    return self.receive_nowait()
                except trio.WouldBlock:
                    self._wake_readers()
                    # A receiver that is woken looks again: a busy worker may have come first.
                    await self._receivers.park()
        finally:
            self.receiving -= 1

    async def wait_wanted(self) -> bool:
        """Wait until more wait to receive than there are items; false once it is `dismissed`."""
        # A receiver that finds no item wakes the readers.
        while not self.dismissed and (self.closed or self.receiving <= len(self.items)):
            await self._readers.park()
        return not self.dismissed

    async def wait_left(self, most: int) -> None:
        """Wait until at most this many items are left, or the buffer is closed."""
        while not self.closed and len(self.items) > most:
            self._enough = most
            await self._readers.park()

    def dismiss(self) -> None:
        """Let those who fill the buffer end, instead of waiting until more is wanted."""
        self.dismissed = True
        self._wake_readers()

    def _wake_readers(self) -> None:
        self._enough = -1
        self._readers.unpark_all()

    def abandon(self) -> list[T]:
        """Return the items that nobody received, and forget them."""
        left = [*self.items, *self._late]
        self.items.clear()
        self._late.clear()
        return left

    @property
    def wanted(self) -> int:
        """How many more receivers wait than there are items."""
        return max(0, self.receiving - len(self.items))
