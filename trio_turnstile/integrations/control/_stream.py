"""`EventStream`: server-sent events. The latest wins: who is slow skips states.

A stream keeps nothing for its client but what it has sent: each time, it asks for the state of
the limiters that the client wants, and sends those that differ.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, final

import anyio
import attrs
import trio
from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ._board import StateOfAll
from ._bridge import PATIENCE, Bridge, Busy, Gone
from ._desk import Asked, Desk
from ._documents import LimiterDoc, RunStateDoc, StateDoc
from ._queries import EventsQuery
from ._replies import encode

AT_MOST_EVERY = 0.05
"""Seconds between two messages on one stream, however much happens."""


@final
class EventStream(Response):
    """Tells one client what changes, until it goes away or the turnstile is left.

    Args:
      desk: tells of what has happened.
      bridge: leads to it.
      asked: what the client wants to hear of, as an `EventsQuery`.
      last: the number of the last event that it has seen, if it has been here before.
    """

    media_type = "text/event-stream"

    def __init__(self, desk: Desk, bridge: Bridge, asked: Asked, last: int) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._desk, self._bridge = desk, bridge
        assert isinstance(asked.query, EventsQuery)
        self._asked, self._query = asked, asked.query
        self._names, self._last = asked.query.names, last
        self._seen = _Seen()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as ASGI has it."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_wait_for_the_end, receive, group.cancel_scope)
            await self._tell(send)
            group.cancel_scope.cancel()

    # ---- inside ----

    async def _tell(self, send: Send) -> None:
        due = monotonic()
        try:
            while True:
                text = await self._news(max(0.0, due - monotonic()))
                if monotonic() >= due:
                    text += await self._state()
                    due = monotonic() + self._query.every
                await send({"type": "http.response.body", "body": text, "more_body": True})
                await anyio.sleep(AT_MOST_EVERY)
        except (Gone, trio.ClosedResourceError):
            await send({"type": "http.response.body", "body": _event("bye", {})})

    async def _news(self, seconds: float) -> bytes:
        try:
            waiting = partial(self._desk.feed.after, self._last, seconds)
            new = await self._bridge.wait(waiting, seconds + PATIENCE)
        except Busy:
            return b": the program is busy\n\n"
        text = b""
        if new and new[0].number > self._last + 1:
            text += _event("omitted", {"number": new[0].number - self._last - 1})
        for news in new:
            self._last = news.number
            if news.limiter is None or self._names is None or news.limiter in self._names:
                text += _event(news.kind, news.document, news.number)
        return text

    async def _state(self) -> bytes:
        try:
            state = await self._bridge.call(self._desk.carry_out, Desk.state, self._asked)
        except Busy:
            return b": the program is busy\n\n"
        return _event("state", self._seen.differences(state))


@final
@attrs.define(eq=False)
class _Seen:
    """What a client has been told, to tell it only what is new."""

    _limiters: dict[str, LimiterDoc] = attrs.field(factory=dict)
    _runs: dict[str, RunStateDoc] = attrs.field(factory=dict)

    def differences(self, state: StateOfAll) -> StateDoc:
        """Return what in a state is new, and take it for told."""
        limiters = {limiter.name: limiter for limiter in state.limiters}
        runs = {run.id: run for run in state.runs}
        changed = StateDoc(
            time=state.time,
            limiters=_changed(limiters, self._limiters),
            gone=[name for name in self._limiters if name not in limiters],
            runs=_changed(runs, self._runs),
        )
        self._limiters, self._runs = limiters, runs
        return changed


def _changed(now: dict[str, Any], before: dict[str, Any]) -> list[Any]:
    return [document for name, document in now.items() if before.get(name) != document]


def _event(kind: str, document: Struct | dict[str, object], number: int | None = None) -> bytes:
    head = f"event: {kind}\n" if number is None else f"id: {number}\nevent: {kind}\n"
    return head.encode() + b"data: " + encode(document) + b"\n\n"


async def _wait_for_the_end(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
