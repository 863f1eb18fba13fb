"""`Door`: how a worker takes its item through a gate, beside the other workers of its pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, final

import attrs
import trio

from trio_turnstile._limiting.claims import TooWide

from .crew import Crew
from .gate import Gate
from .slot import Slot
from .source import Source

Admit: TypeAlias = Callable[[Any, Slot], Awaitable[bool]]
"""What an item has to wait for first; returns whether to go on."""

Refuse: TypeAlias = Callable[[Exception, Any, Slot], Awaitable[None]]
"""Ends an item that cannot have its tokens, and sets ``slot.fate``."""


@final
@attrs.define(eq=False)
class Door:
    """Takes items through the gate of a pool."""

    gate: Gate
    _refuse: Refuse
    _leave: Callable[[Slot], object] | None
    """What to call with a slot whose item is not handled, though it was admitted."""
    _crew: Crew
    _source: Source[Any]
    _is_held_up: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.gate.tell(self._room_has_changed)

    async def let_in(self, admit: Admit | None, item: Any, slot: Slot) -> bool:
        """Take the tokens that the item asks for, and return whether it has them."""
        if admit is not None and not await admit(item, slot):
            return False
        has_tokens = False
        try:
            try:
                self.gate.ask(item, slot.task)
            except Exception as error:
                await self._refuse(error, item, slot)
                return False
            try:
                await self._pass(slot)
                has_tokens = True
            except TooWide as error:
                await self._refuse(error, item, slot)
        finally:
            if not has_tokens and self._leave is not None:
                self._leave(slot)
        return has_tokens

    async def _pass(self, slot: Slot) -> None:
        tokens = self.gate.tokens
        try:
            tokens.acquire_nowait(slot.task)
            slot.held = tokens
        except trio.WouldBlock:
            if self.gate.reads_on:
                await slot.acquire(tokens)
            else:
                await self._crew.queue(slot)

    def _room_has_changed(self) -> None:
        """Stop receiving items if too many wait for their keys, or start again."""
        crew, source = self._crew, self._source
        if self._is_held_up != self.gate.is_full:
            self._is_held_up = self.gate.is_full
            (crew.idle if self._is_held_up else crew.no_longer_idle)()
        if crew.short_of_room:
            crew.wake()
        if source.has_booked and source.waiting:
            source.let_in()


def has_token(task: object) -> None:
    """Do nothing: the item has had its token since it was let in."""
