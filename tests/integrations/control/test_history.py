"""Recorded samples come before those in memory, from any reader that has them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any, final

import attrs
import pytest
import trio
from trio.testing import MockClock

from testkit.control import Program, program
from trio_turnstile import open_turnstile
from trio_turnstile.integrations.control import HistoryPoint, _past, open_control
from trio_turnstile.integrations.control._access import Access

HOUR = 3600.0


@final
@attrs.frozen
class Point:
    time: float
    limit: float = math.inf
    running: float = 2.5
    waiting: float = 1.0


@final
@attrs.define
class Reader:
    """A reader with one point for every ten minutes, which notes each call."""

    asked: list[tuple[str, float, float, int]] = attrs.field(factory=list)
    work: Callable[[], object] = int

    def points(self, limiter: str, since: float, until: float, most: int) -> Sequence[HistoryPoint]:
        self.asked.append((limiter, since, until, most))
        self.work()
        return [Point(since + 600 * place) for place in range(int((until - since) // 600))]


async def remembered(running: Program) -> list[float]:
    """Wait until there are samples in memory, and return their times."""
    while len((history := await running.owner.get("/limiters/work/history"))["times"]) < 3:
        pass
    times: list[float] = history["times"]
    return times


async def test_what_is_older_comes_before_what_is_in_memory(tmp_path: Path) -> None:
    """The record ends where the memory begins, and both together are as many as asked for."""
    reader = Reader()
    async with program(tmp_path, history=reader) as running:
        assert (await running.owner.get("/"))["recorded"]
        begins = (await remembered(running))[0]
        assert reader.asked == []
        since = begins - 2 * HOUR
        history = await running.owner.get(f"/limiters/work/history?since={since}&points=100")
        [(limiter, asked_since, until, most)] = reader.asked
        assert (limiter, asked_since) == ("work", since)
        assert until == pytest.approx(begins, abs=0.001)
        assert 90 < most <= 100
        assert history["times"] == sorted(history["times"])
        assert len({len(history[name]) for name in ("times", "limit", "running", "waiting")}) == 1
        assert 12 < len(history["times"]) <= 100
        assert (history["limit"][0], history["running"][0], history["waiting"][0]) == (None, 2.5, 1)
        assert (history["limit"][-1], history["running"][-1]) == (10, 0)
        assert history["missing"] is None


async def test_what_is_in_memory_is_not_looked_up(tmp_path: Path) -> None:
    """The reader is not called if the memory goes back far enough."""
    reader = Reader()
    async with program(tmp_path, history=reader) as running:
        times = await remembered(running)
        history = await running.owner.get(f"/limiters/work/history?since={times[1]}")
        assert history["times"][0] == times[1]
        assert reader.asked == []


async def test_only_what_is_older(tmp_path: Path) -> None:
    """The reader gives only older samples, even if nothing is in memory."""
    reader = Reader()
    async with program(tmp_path, history=reader) as running:
        since = time.time() - 2 * HOUR
        path = f"/limiters/work/history?since={since}&until={since + HOUR}"
        history = await running.owner.get(path)
        assert history["times"] == [since + 600 * place for place in range(6)]
        assert reader.asked == [("work", since, since + HOUR, 600)]


async def test_a_program_without_records(tmp_path: Path) -> None:
    """A program without a reader gives the samples it has in memory."""
    async with program(tmp_path) as running:
        assert not (await running.owner.get("/"))["recorded"]
        times = await remembered(running)
        history = await running.owner.get(f"/limiters/work/history?since={times[0] - HOUR}")
        assert history["times"][0] == times[0]
        assert history["missing"] is None


def fail() -> None:
    raise RuntimeError("the disk is full")


async def test_a_reader_that_fails(tmp_path: Path) -> None:
    """The samples in memory come anyway, with the reason why there are no more."""
    async with program(tmp_path, history=Reader(work=fail)) as running:
        begins = (await remembered(running))[0]
        history = await running.owner.get(f"/limiters/work/history?since={begins - HOUR}")
        assert history["missing"] == "older samples could not be read: the disk is full"
        assert history["times"][0] >= begins


async def test_a_reader_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging reader is called once, nobody waits long, and other requests are not held up."""
    monkeypatch.setattr(_past, "READ_SECONDS", 0.2)
    released = Event()
    reader = Reader(work=released.wait)
    found: list[Any] = []
    async with program(tmp_path, history=reader) as running:
        begins = (await remembered(running))[0]

        async def look() -> None:
            path = f"/limiters/work/history?since={begins - HOUR}"
            found.append(await running.owner.get(path))

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(look)
                await running.owner.post("/limiters/work/down")
        finally:
            released.set()
        assert running.limits["work"] < 10
    assert len(reader.asked) == 1
    assert {each["missing"] for each in found} == {
        "older samples could not be read within 0.2 seconds"
    }


async def test_it_can_be_mounted(autojump_clock: MockClock) -> None:
    """The API with a history can be mounted in an application of one's own, too."""
    autojump_clock.autojump_threshold = math.inf
    reader = Reader()
    async with open_turnstile() as turnstile, open_control(turnstile, history=reader) as control:
        turnstile.limiter("work", 3)
        app = control.app(Access(None))
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/v1/limiters/work/history",
            "query_string": b"since=0&until=6000",
            "headers": [],
        }

        async def receive() -> dict[str, object]:
            return {"type": "http.request"}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        assert sent[0]["status"] == 200
        assert reader.asked == [("work", 0.0, 6000.0, 600)]
