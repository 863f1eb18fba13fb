"""What a stage needs from its source, and a run from the source that it reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence, Sized
from typing import Protocol, TypeVar

import trio

T_co = TypeVar("T_co", covariant=True)

BLOCKED = (trio.WouldBlock,)
ENDED = (trio.EndOfChannel,)


class Source(Protocol[T_co]):
    """What a stage needs from its source."""

    @property
    def receive_nowait(self) -> Callable[[], T_co]:
        """Returns an item; raises what `blocked` and `ended` say, if there is none.

        It is an attribute that `stop` replaces, and not a method with a test in it: it is
        called for every item, and a method made a stage of no-ops 1.06 times as slow.
        """
        ...

    @property
    def blocked(self) -> tuple[type[Exception], ...]:
        """What `receive_nowait` raises if there is no item yet.

        All other exceptions are failures, including those that a user's iterator may raise and
        that mean something else for other sources.
        """
        ...

    @property
    def ended(self) -> tuple[type[Exception], ...]:
        """What `receive_nowait` and `receive` raise at the end."""
        ...

    @property
    def receive(self) -> Callable[[], Awaitable[T_co]]:
        """Waits for an item; raises what `ended` says at the end."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """Whether one item should be fetched while all tokens are in use."""
        ...

    @property
    def has_booked(self) -> bool:
        """Whether its items are in the books already when a worker receives them."""
        ...

    @property
    def waiting(self) -> Sized:
        """Those who wait for room; while there are any, `let_in` is called after each item."""
        ...

    def let_in(self) -> None:
        """Let in those who have waited for room."""
        ...

    def stop(self) -> None:
        """Read no further. Items that were read already still come."""
        ...

    @property
    def abandon(self) -> Callable[[], Sequence[object]]:
        """Gives up what was read and not received, and returns it."""
        ...


class RunSource(Source[T_co], Protocol):
    """The source of a whole run, which may have to be read in a task, and closed."""

    @property
    def feed(self) -> Callable[[], Awaitable[object]] | None:
        """Reads the source; if there is one, it has to run in a task until after `finish`."""
        ...

    def interrupt(self) -> None:
        """Read no further, and give up a read that is under way, whatever that closes."""
        ...

    def finish(self) -> None:
        """Note that the last item is through, so what the items came from may be closed."""
        ...

    async def close(self) -> None:
        """Close what the items come from. May be called again."""
        ...
