"""The table of operations, from which the routes of the API and its OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

import attrs
from msgspec import Struct

from ._alerts import AlertmanagerMessage, PlainMessage
from ._bridge import Bridge
from ._desk import Asked, Desk
from ._documents import (
    AnswerDoc,
    DecisionDoc,
    EndOrder,
    HistoryDoc,
    LimiterDoc,
    MessageDoc,
    PauseOrder,
    PlainOrder,
    RunDoc,
    ServiceDoc,
    SetOrder,
)
from ._queries import HistoryQuery, LimitersQuery

PREFIX = "/api/v1"

LIMITER = "/limiters/{name}"
RUN = "/runs/{id}"


@final
@attrs.frozen
class Operation:
    """Something that clients can ask for over HTTP."""

    method: str
    path: str
    """The path under the prefix."""
    work: Callable[[Desk, Asked], Awaitable[Any]]
    answer: Any
    """The type of the document in the answer."""
    order: type[Struct] | None = None
    """The type of the body, if it has one."""
    query: type[Struct] | None = None
    over: Callable[..., Awaitable[Any]] = Bridge.call
    """The method of the bridge that calls it in the trio run."""

    @property
    def name(self) -> str:
        """Its name in the OpenAPI document."""
        return self.work.__name__

    @property
    def summary(self) -> str:
        """A line that says what it does."""
        return (self.work.__doc__ or "").strip()


OPERATIONS = (
    Operation("GET", "/", Desk.service, ServiceDoc),
    Operation("GET", "/limiters", Desk.limiters, list[LimiterDoc], query=LimitersQuery),
    Operation("GET", LIMITER + "/decisions", Desk.decisions, list[DecisionDoc]),
    Operation(
        "GET",
        LIMITER + "/history",
        Desk.history,
        HistoryDoc,
        query=HistoryQuery,
        over=Bridge.call_beside,  # it may wait for a database
    ),
    Operation("POST", LIMITER + "/up", Desk.up, AnswerDoc, PlainOrder),
    Operation("POST", LIMITER + "/down", Desk.down, AnswerDoc, PlainOrder),
    Operation("POST", LIMITER + "/pause", Desk.pause, AnswerDoc, PauseOrder),
    Operation("POST", LIMITER + "/resume", Desk.resume, AnswerDoc, PlainOrder),
    Operation("POST", LIMITER + "/release", Desk.release, AnswerDoc, PlainOrder),
    Operation("GET", LIMITER, Desk.limiter, LimiterDoc),
    Operation("PATCH", LIMITER, Desk.set, AnswerDoc, SetOrder),
    Operation("POST", "/up", Desk.all_up, list[AnswerDoc], PlainOrder),
    Operation("POST", "/down", Desk.all_down, list[AnswerDoc], PlainOrder),
    Operation("POST", "/pause", Desk.all_pause, list[AnswerDoc], PauseOrder),
    Operation("POST", "/resume", Desk.all_resume, list[AnswerDoc], PlainOrder),
    Operation("GET", "/runs", Desk.runs, list[RunDoc]),
    Operation("POST", RUN + "/drain", Desk.drain, RunDoc, EndOrder),
    Operation("POST", RUN + "/cancel", Desk.cancel, RunDoc, EndOrder),
    Operation("GET", RUN, Desk.run, RunDoc),
    Operation("POST", "/messages/alertmanager", Desk.take_alerts, MessageDoc, AlertmanagerMessage),
    Operation("POST", "/messages", Desk.take_message, MessageDoc, PlainMessage),
)
"""The operations in the order in which they are matched, because a name may have slashes."""
