"""Everything that happens in a turnstile is in the database."""

from __future__ import annotations

import logging
import math
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from testkit.pipelines import into
from testkit.recorded import Heard, Recorded, stored
from trio_turnstile import (
    Consumer,
    Limiter,
    Processor,
    Producer,
    Scalable,
    Skip,
    Throttle,
    Turnstile,
    open_turnstile,
    run_phases,
)
from trio_turnstile.integrations.statistics import (
    StatisticsError,
    _database,
    read_statistics,
    record_statistics,
)

WINDOWS = (10, 20, 40, 60, 120, 180, 300, 600, 1200, 2400, 3600, 7200)
AVERAGES = "turnstile_averages"


async def fails_on_multiples_of_ten(number: int) -> int:
    await trio.sleep(1)
    if number % 10 == 0:
        raise OSError(number)
    return number


async def work(turnstile: Turnstile, items: int = 50) -> None:
    """Run a pipeline, and move its limit meanwhile."""
    api = turnstile.limiter("api", 4, throttle=Throttle(hold=0))
    pipeline = (
        Producer(range(items))
        | Processor(fails_on_multiples_of_ten, name="fetch", limiter=api, on_error=[Skip()])
        | Consumer(into([]), name="store")
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipeline.run)
        for _ in range(3):
            await trio.sleep(2)
            api.down()
            await trio.sleep(2)
            turnstile.up()
    api.close()


async def test_all_that_observers_hear_is_stored(
    database: Recorded, autojump_clock: MockClock
) -> None:
    """Samples, decisions, errors and runs are stored in order, once each."""
    heard = Heard()
    async with (
        open_turnstile(observers=[heard]) as turnstile,
        record_statistics(turnstile, database.url, every=3) as recording,
    ):
        await work(turnstile)
    assert stored(database) == heard
    assert heard.decisions
    assert len(heard.errors) == 5
    statistics = recording.statistics()
    assert (statistics.buffered, statistics.failures, statistics.last_error) == (0, 0, None)


async def test_the_counts_of_each_step_are_those_of_the_report(database: Recorded) -> None:
    """The counts agree at the end and in the course of time."""

    async def odd(number: int) -> int:
        await trio.lowlevel.checkpoint()
        if number % 2 == 0:
            raise OSError(number)
        return number

    async with (
        open_turnstile() as turnstile,
        record_statistics(turnstile, database.url) as recording,
    ):

        async def store(number: int) -> None:
            if number % 20 == 1:
                await recording.flush()

        pipeline = (
            Producer(range(50))
            | Processor(odd, name="fetch", limiter=turnstile.limiter("api", 4), on_error=[Skip()])
            | Consumer(store, name="store", limiter=1)
        )
        await pipeline.run()
    counters = "SELECT step, received, completed, failed, in_flight FROM turnstile_counters"
    assert database.rows(f"{counters} ORDER BY place") == [
        ("fetch", 50, 25, 25, 0),
        ("store", 25, 25, 0, 0),
    ]
    course = "SELECT completed FROM turnstile_progress WHERE place = 1 ORDER BY taken"
    first, *between, last = (completed for (completed,) in database.rows(course))
    assert (first, last) == (0, 25)
    assert 0 < between[0] < between[1] < 25


async def test_a_run_of_phases_is_one_step(database: Recorded, autojump_clock: MockClock) -> None:
    """The operations are counted, and the errors are there with their identifiers."""

    class Job(Scalable):
        identifiers = ("sample", "s\0 7")

        async def work(self, channels: Any) -> None:
            raise ValueError("half a character: \udc80")

    async with (
        open_turnstile() as turnstile,
        record_statistics(turnstile, database.url),
    ):
        await run_phases([Job()], limiter=turnstile.limiter("jobs", 2), name="night")
    assert database.rows("SELECT step, limiter FROM turnstile_counters") == [("operations", "jobs")]
    ((name, kind, total),) = database.rows("SELECT name, kind, total FROM turnstile_runs")
    assert (name, kind, total) == ("night", "phases", 1)
    (run,) = read_statistics(database.url, run="night").runs
    assert run.steps[0].counts["failed"] == 1
    (error,) = run.errors
    assert error.identifiers == ("sample", "s\N{REPLACEMENT CHARACTER} 7")
    assert error.type == "ValueError"


async def test_a_run_that_began_before_is_recorded_too(sqlite: Recorded) -> None:
    """A run that began before is recorded, because it is among the runs of the turnstile."""
    go_on = trio.Event()

    async def wait(number: int) -> None:
        await go_on.wait()

    async with open_turnstile() as turnstile:
        pipeline = Producer(range(9)) | Consumer(wait, limiter=turnstile.limiter("api", 2))
        async with trio.open_nursery() as nursery:
            await nursery.start(pipeline.run)
            async with record_statistics(turnstile, sqlite.url):
                go_on.set()
                await trio.testing.wait_all_tasks_blocked()
    assert sqlite.rows("SELECT received, completed FROM turnstile_counters") == [(9, 9)]


async def test_the_averages_are_what_a_plain_model_says(
    sqlite: Recorded, autojump_clock: MockClock
) -> None:
    """A limiter is busy to a varying degree for two hours, and all twelve averages are right."""
    heard = Heard()
    async with (
        open_turnstile(observers=[heard]) as turnstile,
        record_statistics(turnstile, sqlite.url, every=1e6) as recording,
    ):
        api = turnstile.limiter("api", 7)
        async with trio.open_nursery() as nursery:
            for period in (13, 61, 607, 1801):
                nursery.start_soon(hold, api, period)
            await trio.sleep(7201)
            nursery.cancel_scope.cancel()
        running = [count for _, count, _ in heard.samples]
        await recording.flush()
        averages = sqlite.rows(f"SELECT {', '.join(f's{w}' for w in WINDOWS)} FROM {AVERAGES}")
    assert averages == [
        tuple(pytest.approx(sum(running[-w // 2 :]) / (w // 2)) for w in WINDOWS),
    ]
    assert len(set(averages[0])) > 8


async def hold(limiter: Limiter, period: float) -> None:
    """Hold a token for the second half of each period."""
    while True:
        await trio.sleep(period / 2)
        async with limiter:
            await trio.sleep(period / 2)


# ---- a database that is unreachable ----


async def test_a_locked_database_loses_nothing(
    sqlite: Recorded,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One message says that the database is away, and one that it is back."""
    monkeypatch.setattr(_database, "PATIENCE", 0)
    heard = Heard()
    caplog.set_level(logging.INFO, "trio_turnstile.statistics")
    async with (
        open_turnstile(observers=[heard]) as turnstile,
        record_statistics(turnstile, sqlite.url, every=1) as recording,
    ):
        with closing(sqlite3.connect(str(sqlite.engine.url.database))) as connection:
            connection.execute("BEGIN IMMEDIATE")
            await work(turnstile)
            autojump_clock.autojump_threshold = math.inf
            while recording.statistics().failures < 4:
                await recording.flush()
            away = recording.statistics()
            connection.rollback()
        await recording.flush()
        assert recording.statistics().last_error is None
    assert away.failures > 3
    assert "locked" in str(away.last_error)
    assert away.buffered >= len(heard.decisions) + len(heard.errors)
    assert stored(sqlite) == heard
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "database is locked" in messages[0]
    assert messages[1] == "statistics can be stored again"


async def test_samples_are_dropped_and_counted_when_the_buffer_is_full(
    sqlite: Recorded, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples are dropped when the buffer is full, but decisions and errors are not."""
    monkeypatch.setattr(_database, "PATIENCE", 0)
    heard = Heard()
    async with (
        open_turnstile(sample_every=0.1) as turnstile,
        record_statistics(turnstile, sqlite.url, every=1, buffer=40) as recording,
    ):
        with turnstile.observe(heard):
            with closing(sqlite3.connect(str(sqlite.engine.url.database))) as connection:
                connection.execute("BEGIN IMMEDIATE")
                await work(turnstile)
                connection.rollback()
            await recording.flush()
    found = stored(sqlite)
    assert (found.decisions, found.errors) == (heard.decisions, heard.errors)
    dropped = len(heard.samples) - len(found.samples)
    assert dropped > 100
    assert recording.statistics().dropped_samples == dropped
    query = "SELECT dropped_samples, dropped_events FROM turnstile_sessions"
    assert sqlite.rows(query) == [(dropped, 0)]


async def test_what_cannot_be_stored_at_the_end_is_said(
    sqlite: Recorded,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The block ends normally even if something could not be stored at the end."""
    monkeypatch.setattr(_database, "PATIENCE", 0)
    with closing(sqlite3.connect(str(sqlite.engine.url.database))) as connection:
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("BEGIN IMMEDIATE")
        async with open_turnstile() as turnstile, record_statistics(turnstile, sqlite.url):
            await work(turnstile)
    (_, last) = (record.getMessage() for record in caplog.records)
    assert "samples, decisions and errors could not be stored: OperationalError" in last


async def test_a_cancelled_recording_stores_what_it_has(
    database: Recorded, autojump_clock: MockClock
) -> None:
    """A cancelled recording stores even what came after the last writing."""
    heard = Heard()
    with trio.CancelScope() as scope:
        async with (
            open_turnstile(observers=[heard]) as turnstile,
            record_statistics(turnstile, database.url, every=1000),
        ):
            scope.deadline = trio.current_time() + 7
            await work(turnstile)
    assert stored(database).decisions == heard.decisions != []
    assert database.value("SELECT count(*) FROM turnstile_sessions WHERE ended IS NULL") == 0


# ---- what is refused, and what is deleted ----


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("turnstile.db", "'turnstile.db' is not an address of a database: use sqlite:///FILE or"),
        ("mysql://host/db", "statistics are kept in SQLite or PostgreSQL, not in mysql"),
        ("sqlite://", "an SQLite database in memory is lost at the end of the program"),
        ("sqlite:////nowhere/at/all.db", "there is no folder '/nowhere/at' for the database"),
    ],
)
async def test_an_address_that_is_none_is_refused(url: str, message: str) -> None:
    """The error for a wrong address says how to write it, or what is missing."""
    with pytest.raises(ValueError, match=message):
        async with open_turnstile() as turnstile, record_statistics(turnstile, url):
            pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be more than 0 seconds, not 0"),
        ({"keep_samples": "day"}, "keep_samples must be more than 0 seconds, not 'day'"),
        ({"buffer": 0.5}, "buffer must be a whole number above 0, not 0.5"),
    ],
)
async def test_numbers_out_of_range_are_refused(options: Any, message: str) -> None:
    """Numbers out of range are refused before anything is opened."""
    with pytest.raises(ValueError, match=message):
        async with open_turnstile() as turnstile, record_statistics(turnstile, **options):
            pass


async def test_a_file_that_is_no_database_is_refused(
    sqlite: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """The file stays as it is, and no warning says that the work goes on."""
    path = trio.Path(str(sqlite.engine.url.database))
    await path.write_bytes(b"some notes of mine, which are no database\n" * 100)
    before = await path.read_bytes()
    with pytest.raises(StatisticsError, match="is a file, but not a database"):
        async with open_turnstile() as turnstile, record_statistics(turnstile, sqlite.url):
            pass
    assert await path.read_bytes() == before
    assert caplog.records == []


async def test_tables_of_a_newer_version_are_refused(database: Recorded) -> None:
    """Tables of a newer version are refused for writing and for reading."""
    async with open_turnstile() as turnstile, record_statistics(turnstile, database.url):
        pass
    database.execute("UPDATE turnstile_meta SET version = 2")
    with pytest.raises(StatisticsError, match=r"have version 2, but .* up to 1: upgrade it"):
        async with open_turnstile() as turnstile, record_statistics(turnstile, database.url):
            pass
    with pytest.raises(StatisticsError, match="have version 2"):
        read_statistics(database.url)


async def test_old_samples_are_deleted(database: Recorded, autojump_clock: MockClock) -> None:
    """Old samples are deleted before minutes, and decisions are kept."""

    def age_of_oldest(table: str) -> float:
        oldest = database.value(f"SELECT min(taken) FROM turnstile_{table}")
        return turnstile.opened.wall_time_of(trio.current_time()) - oldest / 1000

    async with (
        open_turnstile() as turnstile,
        record_statistics(turnstile, database.url, keep_samples=600, keep_minutes=3000),
    ):
        api = turnstile.limiter("api", 5)
        api.down()
        await trio.sleep(3 * 3600)
        # The virtual time goes on while the thread deletes, so how soon it does is not tested here.
        for _ in range(1000):
            await trio.sleep(60)
            samples, minutes = age_of_oldest("samples"), age_of_oldest("minutes")
            if samples <= 600 + 1810 and minutes <= 3000 + 1870:
                break
        assert 600 <= samples <= 600 + 1810
        assert 2940 <= minutes <= 3000 + 1870
    assert database.value("SELECT count(*) FROM turnstile_decisions") == 1
