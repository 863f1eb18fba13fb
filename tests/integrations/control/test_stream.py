"""What listeners get: states, decisions, errors, runs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from testkit.control import Client, Program, program
from trio_turnstile import Consumer, Producer, Skip
from trio_turnstile.integrations.control import _feed
from trio_turnstile.integrations.control._desk import Desk, Look


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Program]:
    async with program(tmp_path) as running:
        await running.owner.get("/")
        yield running


class Listener:
    """A listener that reads a stream of events from a Unix socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._text = ""

    async def next(self, kind: str | None = None) -> dict[str, Any]:
        """Return the next event of a kind, with its data parsed."""
        with trio.fail_after(10):
            while True:
                head, found, rest = self._text.partition("\n\n")
                if not found:
                    received = await self._stream.receive_some()
                    assert received, "the stream has ended"
                    self._text += received.decode()
                    continue
                self._text = rest
                event = dict(
                    line.split(": ", 1)
                    for line in head.split("\n")
                    if line.startswith(("id:", "event:", "data:"))
                )
                if event and kind in (None, event["event"]):
                    return {**event, "data": json.loads(event["data"])}

    async def change(self) -> dict[str, Any]:
        """Return the next state that has something about limiters."""
        while True:
            state = (await self.next("state"))["data"]
            if state["limiters"] or state["gone"]:
                return state


@asynccontextmanager
async def listening(client: Client, query: str, last: int | None = None) -> AsyncIterator[Listener]:
    assert client.served.path is not None
    async with await trio.open_unix_socket(str(client.served.path)) as stream:
        seen = "" if last is None else f"Last-Event-ID: {last}\r\n"
        # HTTP/1.0 has no chunks.
        head = f"GET /api/v1/events?{query} HTTP/1.0\r\nHost: localhost\r\n{seen}\r\n"
        await stream.send_all(head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await stream.receive_some(1)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert b"text/event-stream" in answer
        yield Listener(stream)


async def test_the_first_state_is_whole_and_the_others_are_differences(running: Program) -> None:
    """The first state is whole, and the later ones have only what has changed."""
    async with listening(running.owner, "every=0.1") as listener:
        first = await listener.next("state")
        assert {limiter["name"] for limiter in first["data"]["limiters"]} == {"work", "db"}
        second = await listener.next("state")
        assert second["data"]["limiters"] == second["data"]["gone"] == []
        assert second["data"]["time"] > first["data"]["time"]
        running.turnstile.limiters["db"].total_tokens = 7
        third = await listener.change()
        [limiter] = third["limiters"]
        assert (limiter["name"], limiter["limit"]) == ("db", 7)


async def test_limiters_that_come_and_go(running: Program) -> None:
    """A new limiter is sent as a whole, and a closed one by its name."""
    async with listening(running.owner, "every=0.1") as listener:
        await listener.next("state")
        limiter = running.turnstile.limiter("late", 3)
        change = await listener.change()
        assert [told["name"] for told in change["limiters"]] == ["late"]
        limiter.close()
        change = await listener.change()
        assert change["gone"] == ["late"]


async def test_only_what_was_asked_for_is_told(running: Program) -> None:
    """States and decisions come only for the limiters that were named."""
    async with listening(running.owner, "limiters=db,%20nobody&every=0.1") as listener:
        state = await listener.next("state")
        assert [limiter["name"] for limiter in state["data"]["limiters"]] == ["db"]
        await running.owner.post("/limiters/work/down")
        await running.owner.post("/limiters/db/down", {"note": "slow"})
        decision = await listener.next("decision")
        assert (decision["data"]["limiter"], decision["data"]["note"]) == ("db", "slow")
        change = await listener.change()
        assert [limiter["name"] for limiter in change["limiters"]] == ["db"]


async def test_a_decision_is_told_at_once(running: Program) -> None:
    """A decision is sent at once, however rarely states are asked for."""
    async with listening(running.owner, "every=60") as listener:
        await listener.next("state")
        with trio.fail_after(5):
            await running.owner.post("/limiters/work/down")
            decision = await listener.next()
        assert (decision["event"], decision["data"]["after"]) == ("decision", 8)


async def test_who_comes_back_hears_what_was_missed(running: Program) -> None:
    """The client sends the number of the last event it got; an unknown one counts as the last."""
    async with listening(running.owner, "every=60") as listener:
        await running.owner.post("/limiters/work/down")
        heard = await listener.next("decision")
    await running.owner.post("/limiters/work/down")
    await running.owner.post("/limiters/work/down")
    async with listening(running.owner, "every=60", int(heard["id"])) as listener:
        assert (await listener.next("decision"))["data"]["after"] == 6
        assert (await listener.next("decision"))["data"]["after"] == 4
    async with listening(running.owner, "every=60", 10**9) as listener:
        await listener.next("state")
        await running.owner.post("/limiters/work/down")
        assert (await listener.next())["data"]["after"] == 2


async def test_who_was_away_for_long_is_told_how_much_was_missed(running: Program) -> None:
    """Only so many events are kept; a late client first gets the number of missing ones."""
    for _ in range(_feed.KEPT // 2 + 10):
        running.turnstile.up("work")
        running.turnstile.down("db")
    await running.owner.get("/")
    async with listening(running.owner, "every=60", 1) as listener:
        omitted = await listener.next()
        assert (omitted["event"], omitted["data"]) == ("omitted", {"number": 19})
        assert (await listener.next())["event"] == "decision"


async def test_runs_and_their_errors(running: Program) -> None:
    """The stream has their start, each error, their counts in between, and their end."""

    async def step(number: int) -> None:
        if number == 1:
            raise OSError("disk full")
        if number == 2:
            await proceed.wait()

    proceed = trio.Event()
    work = running.turnstile.limiters["work"]
    pipeline = Producer(range(3)) | Consumer(step, limiter=work, on_error=[Skip()])
    async with listening(running.owner, "every=0.1") as listener:
        await listener.next("state")
        running.nursery.start_soon(partial(pipeline.run, name="load"))
        opened = await listener.next("run")
        assert (opened["data"]["id"], opened["data"]["state"]) == ("load", "running")
        errors, counts = [], ("", 0, 0)
        while not errors or counts != ("load", 1, 1):
            event = await listener.next()
            if event["event"] == "error":
                errors.append(event["data"])
            for run in event["data"].get("runs", ()):
                counts = (run["id"], run["errors"], run["steps"][0]["failed"])
        assert (errors[0]["run"], errors[0]["step"]) == ("load", "step")
        assert "disk full" in errors[0]["text"]
        proceed.set()
        closed = await listener.next("run")
        assert (closed["data"]["id"], closed["data"]["state"]) == ("load", "ended")
        assert closed["data"]["errors"] == errors


async def test_the_end_is_told(tmp_path: Path) -> None:
    """Clients that listen when the program ends learn of the end."""
    async with program(tmp_path) as running:
        await running.owner.get("/")
        async with listening(running.owner, "every=60") as listener:
            await listener.next("state")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.next, "bye")
                running.nursery.cancel_scope.cancel()


async def test_a_stream_is_not_asked_for_more_than_it_can_tell(running: Program) -> None:
    """States come at most ten times a second."""
    answer = await running.owner.ask("GET", "/api/v1/events?every=0.01")
    assert answer.status == 422
    assert answer.body == {"error": "Expected `float` >= 0.1 - at `$.every`"}


async def test_who_hangs_up_is_forgotten(running: Program) -> None:
    """No work goes on for a client that has gone."""
    before = trio.lowlevel.current_statistics().tasks_living
    async with listening(running.owner, "every=0.1") as listener:
        await listener.next("state")
    with trio.fail_after(10):
        while trio.lowlevel.current_statistics().tasks_living > before:
            await trio.sleep(0.01)


async def test_streams_that_tell_the_same_ask_together(
    running: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trio run is asked once for all streams; when one goes away, the others go on."""
    asked = 0
    look = Desk.look

    async def counted(desk: Desk, *key: Any) -> Look:
        nonlocal asked
        asked += 1
        return await look(desk, *key)

    monkeypatch.setattr(Desk, "look", counted)
    async with AsyncExitStack() as others:
        async with listening(running.owner, "every=0.5") as first:
            listeners = [
                await others.enter_async_context(listening(running.owner, "every=0.5"))
                for _ in range(9)
            ]
            for listener in [first, *listeners]:
                await listener.next("state")
                await listener.next("state")
            begun = asked
            for _ in range(4):
                for listener in [first, *listeners]:
                    await listener.next("state")
            assert asked - begun < 20  # 40 if each stream asked separately
        await running.owner.post("/limiters/work/down")
        for listener in listeners:
            assert (await listener.next("decision"))["data"]["after"] == 8
            await listener.next("state")
