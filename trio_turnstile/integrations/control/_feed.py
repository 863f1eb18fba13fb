"""`Feed`: numbered events for those who listen. It is used only in the trio run."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias, final

import attrs
import trio

from trio_turnstile import Decision, ErrorNoted, Event, RunClosed, RunOpened

from ._board import Board
from ._documents import DecisionDoc, RunDoc, RunErrorDoc

KEPT = 1000
"""How many of the newest events are kept for listeners that were away."""

Told: TypeAlias = DecisionDoc | RunErrorDoc | RunDoc


@final
@attrs.frozen
class News:
    """An event, numbered."""

    number: int
    kind: str
    document: Told
    limiter: str | None = None


@final
@attrs.define(eq=False)
class Feed:
    """The newest events of a turnstile; it is an observer of the turnstile."""

    _board: Board
    last: int = attrs.field(default=0, init=False)
    """The number of the newest event."""
    # A decision becomes a document when somebody asks for it, because there may be many, and
    # nobody listening. An error becomes a document at once, because it keeps its item alive.
    _kept: deque[tuple[int, str, Decision | Told]] = attrs.field(
        factory=lambda: deque(maxlen=KEPT), init=False
    )
    _happened: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __call__(self, event: Event, /) -> None:
        """Take in an event."""
        match event:
            case Decision():
                self._add("decision", event)
            case ErrorNoted():
                error = self._board.error(event.run, event.error, event.time)
                self._board.noted(event.run, error)
                self._add("error", error)
            case RunOpened():
                self._add("run", self._board.run(event.run))
            case RunClosed():
                self._add("run", self._board.ended(event.run))
            case _:
                pass

    async def after(self, number: int, seconds: float) -> list[News]:
        """Return the events after a number; wait for some seconds if there are none."""
        with trio.move_on_after(seconds):
            await trio.lowlevel.checkpoint()
            while self.last <= number:
                await self._happened.wait()
        new = [kept for kept in self._kept if kept[0] > number]
        return [self._news(*kept) for kept in new]

    # ---- inside ----

    def _add(self, kind: str, told: Decision | Told) -> None:
        self.last += 1
        self._kept.append((self.last, kind, told))
        self._happened.set()
        self._happened = trio.Event()

    def _news(self, number: int, kind: str, told: Decision | Told) -> News:
        if isinstance(told, Decision):
            return News(number, kind, self._board.decision(told), told.limiter)
        return News(number, kind, told)
