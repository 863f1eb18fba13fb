"""Databases and programs that are killed, stopped and started again under load."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from testkit.pipelines import into
from testkit.postgres import Cluster, postgres_cluster
from testkit.recorded import Heard, Recorded, stored
from trio_turnstile import Consumer, Processor, Producer, Skip, Throttle, open_turnstile
from trio_turnstile.integrations.statistics import record_statistics

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A database server for the test alone."""
    with postgres_cluster() as cluster:
        yield cluster


async def fails_on_multiples_of_seven(number: int) -> int:
    await trio.sleep(0.01)
    if number % 7 == 0:
        raise OSError(number)
    return number


async def killed(cluster: Cluster) -> None:
    """Kill the server, and start it again after a while."""
    await trio.to_thread.run_sync(cluster.kill)
    await trio.sleep(2)
    await trio.to_thread.run_sync(cluster.start)


async def stopped(cluster: Cluster) -> None:
    """Stop the server for a while."""
    await trio.to_thread.run_sync(cluster.freeze)
    await trio.sleep(2)
    await trio.to_thread.run_sync(cluster.thaw)


async def restarted(cluster: Cluster) -> None:
    """Kill the server three times."""
    for _ in range(3):
        await trio.to_thread.run_sync(cluster.kill)
        await trio.to_thread.run_sync(cluster.start)


@pytest.mark.parametrize("outage", [killed, stopped, restarted])
async def test_a_server_that_goes_away_loses_nothing(
    cluster: Cluster, outage: Callable[[Cluster], Awaitable[None]]
) -> None:
    """No operation fails, and every decision, error and sample is in the database at the end."""
    heard = Heard()
    url = f"postgresql://tests@/postgres?host={cluster.folder}"
    results: list[int] = []
    async with (
        open_turnstile(sample_every=0.1) as turnstile,
        record_statistics(turnstile, url, every=0.3) as recording,
        trio.open_nursery() as nursery,
    ):
        turnstile.observe(heard)
        api = turnstile.limiter("api", 8, throttle=Throttle(hold=0))
        over = trio.Event()

        async def items() -> None:
            number = 0
            while not over.is_set() or number < 200:
                pipeline = (
                    Producer(range(number, number + 100))
                    | Processor(fails_on_multiples_of_seven, limiter=api, on_error=[Skip()])
                    | Consumer(into(results))
                )
                await pipeline.run()
                number += 100

        async def signals() -> None:
            while not over.is_set():
                await trio.sleep(0.02)
                api.down()
                await trio.sleep(0.02)
                api.up()

        nursery.start_soon(items)
        nursery.start_soon(signals)
        await trio.sleep(0.5)
        await outage(cluster)
        await trio.sleep(0.5)
        over.set()
    with Recorded.open(url) as recorded:
        found = stored(recorded)
    assert (found.decisions, found.errors) == (heard.decisions, heard.errors)
    assert found.ended == heard.ended
    assert len(heard.decisions) > 20
    assert (len(results) + len(heard.errors)) % 100 == 0
    assert len(results) > 100
    statistics = recording.statistics()
    assert (statistics.dropped_samples, statistics.dropped_events) == (0, 0)


PROGRAM = """
import sys, time, trio
from trio_turnstile import Throttle, open_turnstile
from trio_turnstile.integrations.statistics import record_statistics

async def main(url, every, seconds):
    def tell(event):
        if type(event).__name__ == "Decision":
            print(event.wall_time, flush=True)
    async with (
        open_turnstile(observers=[tell], sample_every=0.1) as turnstile,
        record_statistics(turnstile, url, every=every),
    ):
        print("ready", flush=True)
        api = turnstile.limiter("api", 9, throttle=Throttle(hold=0))
        with trio.move_on_after(seconds):
            while True:
                await trio.sleep(0.01)
                api.down()
                await trio.sleep(0.01)
                api.up()

trio.run(main, sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
"""


def start(url: str, every: float, seconds: float) -> subprocess.Popen[str]:
    """Start a program that records decisions, and prints when each was made."""
    command = [sys.executable, "-c", PROGRAM, url, str(every), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_program_that_is_killed_loses_what_was_not_yet_to_be_written(
    database: Recorded, tmp_path: Path
) -> None:
    """At most the last ``every`` seconds are lost; one more is allowed for a busy machine."""
    every = 0.5
    with start(database.url, every, 60) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        time.sleep(3)
        program.kill()
        now = time.time()
        told = [float(line) for line in program.stdout.read().splitlines()]
    due = [made for made in told if made < now - every - 1]
    assert len(due) > 10
    assert database.value("SELECT count(*) FROM turnstile_decisions") >= len(due)
    assert database.value("SELECT count(*) FROM turnstile_sessions WHERE ended IS NULL") == 1
    assert database.value("SELECT count(*) FROM turnstile_samples") > 10


def test_several_programs_share_a_database(database: Recorded) -> None:
    """Even if none of them finds the tables, each program has a session and loses nothing."""
    programs = [start(database.url, 0.2, 2) for _ in range(4)]
    told = [program.communicate()[0].count("\n") - 1 for program in programs]
    assert [program.returncode for program in programs] == [0] * 4
    decisions = "SELECT count(*) FROM turnstile_decisions GROUP BY session"
    assert sorted(count for (count,) in database.rows(decisions)) == sorted(told)
    assert database.value("SELECT count(*) FROM turnstile_sessions WHERE ended IS NULL") == 0
