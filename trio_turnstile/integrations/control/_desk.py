"""`Desk`: carries out requests over HTTP in the trio run, and returns the results.

Its methods are the operations of the API. Each of them runs in the trio run, over the bridge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, TypeVar, final

import attrs
import trio
from msgspec import Struct

from trio_turnstile import (
    Action,
    Event,
    Limiter,
    LiveRun,
    Pause,
    Release,
    Resume,
    SetLimit,
    Signal,
    Turnstile,
)

from ._alerts import AlertmanagerMessage, PlainMessage
from ._board import Board, StateOfAll
from ._charts import Charts
from ._documents import (
    AnswerDoc,
    DecisionDoc,
    EndOrder,
    HistoryDoc,
    LimiterDoc,
    MessageDoc,
    Order,
    PauseOrder,
    RunDoc,
    ServiceDoc,
    SetOrder,
)
from ._feed import Feed, News
from ._messages import Messages
from ._queries import HistoryQuery, LimitersQuery

T = TypeVar("T")


class Unknown(Exception):
    """Nothing has the given name."""


@final
@attrs.frozen
class Asked:
    """A request: the parts of its path, the query, the order, and the author."""

    path: Mapping[str, str]
    query: Struct | None
    order: Struct | None
    author: str
    read_only: bool


@final
@attrs.frozen
class Look:
    """The next message to the listeners."""

    news: Sequence[News]
    """The new events."""
    state: StateOfAll | None
    """The state of everything, if it was due."""


@final
@attrs.define(eq=False)
class Desk:
    """Carries out the operations of the API on one turnstile."""

    turnstile: Turnstile
    board: Board
    feed: Feed
    messages: Messages
    charts: Charts

    async def carry_out(self, work: Callable[[Desk, Asked], Awaitable[T]], asked: Asked) -> T:
        """Carry out one of the operations below.

        Raises:
          trio.ClosedResourceError: if the turnstile has been closed.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        return await work(self, asked)

    def _check_open(self) -> None:
        self.turnstile.observe(_ignore).close()  # raises if it has been closed

    # ---- reading ----

    async def service(self, asked: Asked) -> ServiceDoc:
        """Which program is this?"""
        return self.board.service(read_only=asked.read_only, recorded=self.charts.has_past)

    async def limiters(self, asked: Asked) -> list[LimiterDoc]:
        """A page of the limiters, sorted by name."""
        query = asked.query
        assert isinstance(query, LimitersQuery)
        names = sorted(
            name
            for name in self.turnstile.limiters
            if name > query.after and query.like.lower() in name.lower()
        )
        return [self.board.limiter(self._limiter(name)) for name in names[: query.limit]]

    async def limiter(self, asked: Asked) -> LimiterDoc:
        """One limiter."""
        return self.board.limiter(self._limiter(asked.path["name"]))

    async def decisions(self, asked: Asked) -> list[DecisionDoc]:
        """Why does the limit have its value? The last decisions, oldest first."""
        limiter = self._limiter(asked.path["name"])
        return [self.board.decision(decision) for decision in limiter.decisions]

    async def history(self, asked: Asked) -> HistoryDoc:
        """Samples of one limiter: of the last two hours, or recorded ones since a given time."""
        limiter, query = self._limiter(asked.path["name"]), asked.query
        assert isinstance(query, HistoryQuery)
        return await self.charts.history(limiter.name, query)

    async def runs(self, asked: Asked) -> list[RunDoc]:
        """The runs of phases and pipelines, oldest first, including some that have ended."""
        return self.board.runs()

    async def run(self, asked: Asked) -> RunDoc:
        """One run."""
        name = asked.path["id"]
        for run in reversed(self.board.runs()):
            if run.id == name:
                return run
        raise self._no_run(name)

    async def look(self, names: frozenset[str] | None, last: int, due: float) -> Look:
        """The events after a given one, as soon as there are any, and the state when it is due."""
        self._check_open()
        news = await self.feed.after(last, max(0.0, due - monotonic()))
        return Look(news, self.board.state(names) if monotonic() >= due else None)

    async def last_event(self, asked: Asked) -> int:
        """The number of the last event, for a stream."""
        return self.feed.last

    # ---- changing ----

    async def set(self, asked: Asked) -> AnswerDoc:
        """Set the limit regardless of all rules, until it is released or for some seconds."""
        order = asked.order
        assert isinstance(order, SetOrder)
        return await self._ask_one(asked, SetLimit(order.limit, for_seconds=order.seconds))

    async def release(self, asked: Asked) -> AnswerDoc:
        """End an override: signals and the policy determine the limit again."""
        return await self._ask_one(asked, Release())

    async def up(self, asked: Asked) -> AnswerDoc:
        """One step up, under the rules of the throttle."""
        return await self._ask_one(asked, Signal.UP)

    async def down(self, asked: Asked) -> AnswerDoc:
        """One step down, under the rules of the throttle."""
        return await self._ask_one(asked, Signal.DOWN)

    async def pause(self, asked: Asked) -> AnswerDoc:
        """Admit nobody until resumed, or for some seconds."""
        return await self._ask_one(asked, _pause(asked))

    async def resume(self, asked: Asked) -> AnswerDoc:
        """End a pause, and put withheld tokens back into use."""
        return await self._ask_one(asked, Resume())

    async def all_up(self, asked: Asked) -> list[AnswerDoc]:
        """One step up for each limiter."""
        return await self._ask_all(asked, Signal.UP)

    async def all_down(self, asked: Asked) -> list[AnswerDoc]:
        """One step down for each limiter."""
        return await self._ask_all(asked, Signal.DOWN)

    async def all_pause(self, asked: Asked) -> list[AnswerDoc]:
        """Pause each limiter."""
        return await self._ask_all(asked, _pause(asked))

    async def all_resume(self, asked: Asked) -> list[AnswerDoc]:
        """Resume each limiter."""
        return await self._ask_all(asked, Resume())

    async def drain(self, asked: Asked) -> RunDoc:
        """Make a run take no more items, and finish those in hand."""
        run, order = self._run(asked.path["id"]), asked.order
        seconds = order.seconds if isinstance(order, EndOrder) else None
        self.board.as_seen(run).drain(None if seconds is None else trio.current_time() + seconds)
        return self.board.run(run)

    async def cancel(self, asked: Asked) -> RunDoc:
        """Make a run cancel the items in hand, now or after some seconds of draining."""
        order = asked.order
        if isinstance(order, EndOrder) and order.seconds is not None:
            return await self.drain(asked)
        run = self._run(asked.path["id"])
        self.board.as_seen(run).cancel()
        return self.board.run(run)

    async def take_alerts(self, asked: Asked) -> MessageDoc:
        """Act on a group of alerts by the rules: the webhook of Alertmanager, version 4."""
        assert isinstance(asked.order, AlertmanagerMessage)
        return await self.messages.take_group(asked.order)

    async def take_message(self, asked: Asked) -> MessageDoc:
        """Act on a message: one step for a limiter, or an alert for the rules."""
        assert isinstance(asked.order, PlainMessage)
        return await self.messages.take(asked.order)

    # ---- inside ----

    async def _ask_one(self, asked: Asked, action: Action) -> AnswerDoc:
        return await self._ask(self._limiter(asked.path["name"]).name, action, asked)

    async def _ask_all(self, asked: Asked, action: Action) -> list[AnswerDoc]:
        return [await self._ask(name, action, asked) for name in tuple(self.turnstile.limiters)]

    async def _ask(self, name: str, action: Action, asked: Asked) -> AnswerDoc:
        order = asked.order
        assert isinstance(order, Order)
        limiter = self._limiter(name)
        if order.dry_run:
            decision = self.turnstile.preview(name, action)
        else:
            by = order.by or asked.author
            decision = await self.turnstile.ask(name, action, by=by, note=order.note)
        state, decided = self.board.limiter(limiter), self.board.decision(decision)
        return AnswerDoc(state, decided, decided.applied, order.dry_run)

    def _limiter(self, name: str) -> Limiter:
        try:
            return self.turnstile.limiters[name]
        except KeyError:
            raise Unknown(_nothing("limiter", name, self.turnstile.limiters)) from None

    def _run(self, name: str) -> LiveRun:
        try:
            return self.turnstile.runs[name]
        except KeyError:
            raise self._no_run(name) from None

    def _no_run(self, name: str) -> Unknown:
        return Unknown(_nothing("run that goes on", name, self.turnstile.runs))


def _ignore(event: Event, /) -> None: ...


def _pause(asked: Asked) -> Pause:
    order = asked.order
    assert isinstance(order, PauseOrder)
    return Pause(order.seconds)


def _nothing(what: str, name: str, there: Mapping[str, Any]) -> str:
    names = list(there)[:20]
    more = f" and {len(there) - 20} more" if len(there) > 20 else ""
    return f"no {what} is named {name[:100]!r}; there are: {', '.join(names) or 'none'}{more}"
