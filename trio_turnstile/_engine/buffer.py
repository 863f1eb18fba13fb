"""`Buffer`: items between those who put them in and the workers who receive them."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar, final

import trio

T = TypeVar("T")


@final
class Buffer(Generic[T]):
    """Items in the order in which they came, without a bound of its own."""

    def __init__(self) -> None:
        self.items: deque[T] = deque()
        """The items that nobody has received yet."""
        self.closed = False
        """Whether no more will come."""
        self.receivers = trio.lowlevel.ParkingLot()
        """Who waits for an item."""
        self._readers = trio.lowlevel.ParkingLot()
        self._reader_waits = False
        self._failure: Exception | None = None

    def put(self, item: T) -> None:
        """Add an item, and wake one receiver."""
        self.items.append(item)
        if self.receivers:
            self.receivers.unpark()

    def close(self, failure: Exception | None = None) -> None:
        """Say that no more will come; receivers get the first failure after the last item."""
        self._failure = self._failure or failure
        self.closed = True
        self.receivers.unpark_all()

    def receive_nowait(self) -> T:
        """Return the next item.

        Raises:
          trio.WouldBlock: if there is none yet.
          trio.EndOfChannel: if none will come any more.
          Exception: the failure that the buffer was closed with, once.
        """
        if self.items:
            if self._reader_waits:
                self._wake_readers()
            return self.items.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self.closed:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def receive(self) -> T:
        """Wait for the next item, as `receive_nowait` returns it."""
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                self._wake_readers()
                # Whoever is woken looks again: a busy worker may have come first.
                await self.receivers.park()

    async def wait_taken(self) -> None:
        """Wait until an item was received, or is waited for; for those who fill the buffer."""
        self._reader_waits = True
        await self._readers.park()

    def _wake_readers(self) -> None:
        self._reader_waits = False
        self._readers.unpark_all()

    def abandon(self) -> list[T]:
        """Return the items that nobody received, and forget them."""
        left = list(self.items)
        self.items.clear()
        return left
