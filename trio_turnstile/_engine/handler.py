"""What a worker pool needs from its front end: what to do with an item, and where to book."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from .counts import Fate
from .slot import Slot

T_contra = TypeVar("T_contra", contravariant=True)


class Books(Protocol[T_contra]):
    """Where a pool books how its items have ended: `Counts`, unless the items are batches."""

    def settle(self, fate: Fate, /) -> None:
        """Book how an item ended."""

    def cancel(self, item: T_contra, /) -> None:
        """Book that an item was cancelled."""


class Handler(Protocol[T_contra]):
    """What a front end does with an item, in the parts that a worker calls one by one.

    They are separate because of the cost: a coroutine that surrounds them would make a
    stage of no-ops a twentieth slower.
    """

    @property
    def admit(self) -> Callable[[T_contra, Slot], Awaitable[bool]] | None:
        """What the item has to wait for before its token; returns whether it is handled at all.

        If it is not, ``slot.fate`` has been set.
        """
        ...

    @property
    def handle(self) -> Callable[[T_contra, Slot], Awaitable[object]]:
        """Handles one item, with a token in the slot at the start.

        It sets ``slot.fate``, unless there is a ``follow`` that does, and gives the token
        back before it waits for anything.
        """
        ...

    @property
    def recover(self) -> Callable[[T_contra, Slot, Exception], Awaitable[object]] | None:
        """Goes on after an error of ``handle``, and returns in its place."""
        ...

    @property
    def follow(self) -> Callable[[Any, Slot], Awaitable[object] | None] | None:
        """Gets what ``handle`` returned: sets ``slot.fate``, or returns an awaitable that will."""
        ...

    @property
    def leave(self) -> Callable[[Slot], object] | None:
        """Is called when the item is finished, however it ended."""
        ...
