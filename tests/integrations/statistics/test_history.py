"""How busy limiters were, earlier runs of a program included."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from testkit.recorded import Recorded
from trio_turnstile import open_turnstile
from trio_turnstile.integrations.statistics import (
    RecordedHistory,
    StatisticsError,
    record_statistics,
)


async def record(database: Recorded, clock: MockClock, name: str, limit: int) -> float:
    """Record ten minutes of a program, and return the Unix time of its end.

    No time passes while the database is opened, and none after it.
    """
    clock.autojump_threshold = math.inf
    async with (
        open_turnstile(name=name) as turnstile,
        record_statistics(turnstile, database.url, every=1e6),
    ):
        turnstile.limiter("api", limit)
        turnstile.limiter("other", 50)
        clock.autojump_threshold = 0
        await trio.sleep(600)
        clock.autojump_threshold = math.inf
        return turnstile.opened.wall_time_of(trio.current_time())


def move_back(database: Recorded, milliseconds: int) -> None:
    """Make the records older."""
    columns = {"samples": ("taken",), "minutes": ("taken",), "sessions": ("started", "seen")}
    for table, times in columns.items():
        for time in times:
            database.execute(f"UPDATE turnstile_{table} SET {time} = {time} - {milliseconds}")


async def test_earlier_runs_of_a_name(database: Recorded, autojump_clock: MockClock) -> None:
    """The records are those of this limiter up to a time, averaged to a number of points."""
    sessions = (("night", 3), ("day", 9), ("night", 5))
    for name, limit in sessions:
        end = await record(database, autojump_clock, name, limit) - 3600
        move_back(database, 3_600_000)  # virtual time starts again with each session
    start = end - 3 * 3600
    history = RecordedHistory(database.url, "night")
    points = history.points("api", start, end + 1, 600)
    times = [point.time for point in points]
    assert times == sorted(times)
    assert {point.limit for point in points} == {3, 5}
    assert 50 < len(points) <= 600
    some = history.points("api", start, end - 300, 10)
    assert 2 <= len(some) <= 10
    assert all(start <= point.time < end - 300 for point in some)
    assert history.points("none", start, end, 600) == ()
    assert history.points("api", end, end - 1, 600) == ()
    assert RecordedHistory(database.url, "noon").points("api", 0, end, 600) == ()


async def test_minutes_stand_where_samples_were_deleted(
    database: Recorded, autojump_clock: MockClock
) -> None:
    """Minutes stand before the first remaining sample, and no time occurs twice."""
    end = await record(database, autojump_clock, "night", 3)
    database.execute(f"DELETE FROM turnstile_samples WHERE taken < {1000 * (end - 300):.0f}")
    points = RecordedHistory(database.url, "night").points("api", end - 600, end + 1, 600)
    steps = [after.time - before.time for before, after in pairwise(points)]
    assert min(steps) > 0
    assert max(steps) <= 121
    assert points[0].time < end - 500
    assert steps[-1] < 5


def test_no_database(tmp_path: object) -> None:
    """A missing database is an error, and no file is made."""
    with pytest.raises(StatisticsError, match="there is no file"):
        RecordedHistory(f"sqlite:///{tmp_path}/none.db", "night").points("api", 0, 1, 2)
