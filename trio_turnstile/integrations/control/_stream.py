"""`EventStream`: server-sent events. The latest state wins: slow clients skip states.

A stream keeps only the last state that it has sent to its client, and sends the differences.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import Any, final

import anyio
import trio
from msgspec import Struct
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ._board import StateOfAll
from ._bridge import Busy, Gone
from ._desk import Asked, Look
from ._documents import LimiterDoc, RunStateDoc, StateDoc
from ._looks import Looks
from ._queries import EventsQuery
from ._replies import encode

AT_MOST_EVERY = 0.05
"""The fewest seconds between two messages on one stream."""


@final
class EventStream(Response):
    """Sends changes to one client, until it disconnects or the turnstile is closed.

    Args:
      looks: gets what to send.
      asked: the request of the client, with an `EventsQuery`.
      last: the number of the last event that the client has seen.
    """

    media_type = "text/event-stream"

    def __init__(self, looks: Looks, asked: Asked, last: int) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._looks = looks
        assert isinstance(asked.query, EventsQuery)
        self._every, self._names, self._last = asked.query.every, asked.query.names, last
        self._told = StateOfAll(time=0.0, limiters=[], runs=[])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, as an ASGI application."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_wait_for_the_end, receive, group.cancel_scope)
            await self._tell(send)
            group.cancel_scope.cancel()

    # ---- inside ----

    async def _tell(self, send: Send) -> None:
        due, sent = monotonic(), -math.inf
        try:
            while True:
                text, is_due = await self._next(due)
                if is_due:
                    # Streams send states at the same moments, so that they can share them.
                    due = (monotonic() // self._every + 1) * self._every
                await anyio.sleep(max(0.0, sent + AT_MOST_EVERY - monotonic()))
                sent = monotonic()
                await send({"type": "http.response.body", "body": text, "more_body": True})
        except (Gone, trio.ClosedResourceError):
            await send({"type": "http.response.body", "body": _event("bye", {})})

    async def _next(self, due: float) -> tuple[bytes, bool]:
        """Return what to send next, and whether it contains the state."""
        try:
            look = await self._looks.next(self._names, self._last, due)
        except Busy:
            return b": the program is busy\n\n", False
        text = self._tell_news(look)
        if look.state is None:
            return text, False
        told, self._told = self._told, look.state
        return text + _event("state", _differences(told, look.state)), True

    def _tell_news(self, look: Look) -> bytes:
        text = b""
        if look.news and look.news[0].number > self._last + 1:
            text += _event("omitted", {"number": look.news[0].number - self._last - 1})
        for news in look.news:
            self._last = news.number
            if news.limiter is None or self._names is None or news.limiter in self._names:
                text += _event(news.kind, news.document, news.number)
        return text


def _differences(before: StateOfAll, now: StateOfAll) -> StateDoc:
    """Return what is new in a state, compared with an earlier state."""
    known, limiters = _by_name(before), _by_name(now)
    return StateDoc(
        time=now.time,
        limiters=_changed(limiters, known),
        gone=[name for name in known if name not in limiters],
        runs=_changed(_by_id(now), _by_id(before)),
    )


def _by_name(state: StateOfAll) -> dict[str, LimiterDoc]:
    return {limiter.name: limiter for limiter in state.limiters}


def _by_id(state: StateOfAll) -> dict[str, RunStateDoc]:
    return {run.id: run for run in state.runs}


def _changed(now: dict[str, Any], before: dict[str, Any]) -> list[Any]:
    return [document for name, document in now.items() if before.get(name) != document]


def _event(kind: str, document: Struct | dict[str, object], number: int | None = None) -> bytes:
    head = f"event: {kind}\n" if number is None else f"id: {number}\nevent: {kind}\n"
    return head.encode() + b"data: " + encode(document) + b"\n\n"


async def _wait_for_the_end(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
