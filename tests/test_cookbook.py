"""The programs of the cookbook do what its page says, with real servers and files."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import runpy
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from testkit.servers import Reply, http_server, tcp_server
from trio_turnstile import Aborted, PipelineReport
from trio_turnstile.testing import assert_conserved

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"

LIMIT = 30.0
"""After so many seconds something must be wrong; nothing here takes two."""

Main = Callable[..., Awaitable[PipelineReport]]


def contents(name: str, run_name: str = "cookbook") -> dict[str, Any]:
    """Return the names that a program defines."""
    return runpy.run_path(str(EXAMPLES / f"cookbook_{name}.py"), run_name=run_name)


def program(name: str, function: str = "main") -> Main:
    """Return the main function of a program, with a time limit and a check of its books."""
    main = contents(name)[function]

    async def run(*arguments: object, **options: object) -> PipelineReport:
        with trio.fail_after(LIMIT):
            report: PipelineReport = await main(*arguments, **options)
        assert_conserved(report)
        return report

    return run


def start(nursery: trio.Nursery, main: Main, *arguments: object) -> Callable[[], PipelineReport]:
    """Start a program in the nursery; return a function that gives its report afterwards."""
    reports: list[PipelineReport] = []

    async def keep_report() -> None:
        reports.append(await main(*arguments))

    nursery.start_soon(keep_report)
    return lambda: reports[0]


def test_every_program_is_on_the_page() -> None:
    """The cookbook shows each of its programs once, and no other."""
    page = (EXAMPLES.parent / "cookbook.rst").read_text()
    shown = re.findall(r"^\.\. literalinclude:: examples/(.+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(path.name for path in EXAMPLES.glob("cookbook_*.py"))


# ---- files ----


def write_lines(path: Path, items: Iterable[object]) -> None:
    path.write_text("".join(f"{json.dumps(item)}\n" for item in items))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


# ---- pages ----


class Shop:
    """A shop with three pages of orders: it refuses 4 at first, lacks 5, and 6 has no price."""

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.ready = math.inf

    async def answer(self, path: str) -> Reply:
        await trio.lowlevel.checkpoint()
        self.asked[path] += 1
        asked = re.fullmatch(r"/orders(/|\?page=)(\d+)", path)
        assert asked is not None
        number = int(asked[2])
        if asked[1] == "?page=":
            orders = list(range(3 * number - 2, 3 * number + 1))
            return Reply({"orders": orders, "next": number + 1 if number < 3 else None})
        if number == 4 and trio.current_time() < self.ready:
            self.ready = min(self.ready, trio.current_time() + 1)
            return Reply(status=429, headers=("Retry-After: 1",))
        if number == 5:
            return Reply(status=404)
        if number == 6:
            return Reply({"number": 6, "customer": "Ida"})
        return Reply({"number": number, "customer": "Ann", "euros": number + 0.5})


async def test_pages(tmp_path: Path) -> None:
    """Orders of all pages are stored; one is retried, and two become dead letters."""
    shop = Shop()
    async with http_server(shop.answer) as url:
        report = await program("pages")(url, tmp_path / "orders.db", tmp_path / "letters.jsonl")
    assert sorted(rows(tmp_path / "orders.db", "select * from orders")) == [
        (number, "Ann", 100 * number + 50) for number in (1, 2, 3, 4, 7, 8, 9)
    ]
    letters = {letter["step"]: letter for letter in read_lines(tmp_path / "letters.jsonl")}
    assert letters.keys() == {"order", "to_row"}
    assert letters["order"]["item"] == 5
    assert "404" in letters["order"]["error"]
    assert letters["to_row"]["item"] == {"number": 6, "customer": "Ida"}
    assert (report["order"].received, report["order"].diverted) == (9, 1)
    assert (report["to_row"].received, report["to_row"].diverted) == (8, 1)
    assert report["Orders"].completed == 7
    assert report["order"].retried == 1
    assert shop.asked["/orders/4"] == 2


async def test_pages_of_an_api_that_breaks_down(tmp_path: Path) -> None:
    """The letters of orders that were fetched before are in the file."""
    shop = Shop()

    async def answer(path: str) -> Reply:
        return Reply(status=500) if path.endswith("page=3") else await shop.answer(path)

    async with http_server(answer) as url:
        with pytest.raises(Aborted) as aborted:
            await program("pages")(url, tmp_path / "orders.db", tmp_path / "letters.jsonl")
    letters = read_lines(tmp_path / "letters.jsonl")
    assert {letter["step"] for letter in letters} == {"order", "to_row"}
    assert sum(step.diverted for step in aborted.value.report.steps) == len(letters) == 2
    assert rows(tmp_path / "orders.db", "select count(*) from orders") == [(4,)]


# ---- redrive ----


async def test_redrive(tmp_path: Path) -> None:
    """Letters that can be repaired are stored the second time; the rest is left over."""
    readings, kelvins = tmp_path / "readings.jsonl", tmp_path / "kelvins.jsonl"
    letters, left_over = tmp_path / "letters.jsonl", tmp_path / "left_over.jsonl"
    celsius = {"attic": "20.5", "cellar": "8,25", "garden": None}
    write_lines(readings, [{"sensor": name, "celsius": value} for name, value in celsius.items()])

    report = await program("redrive")(readings, kelvins, letters)
    assert (report["to_kelvin"].completed, report["to_kelvin"].diverted) == (1, 2)
    assert {letter["item"]["sensor"] for letter in read_lines(letters)} == {"cellar", "garden"}

    report = await program("redrive", "redrive")(letters, kelvins, left_over)
    assert (report["to_kelvin"].completed, report["to_kelvin"].diverted) == (1, 1)
    assert read_lines(kelvins) == [
        {"sensor": "attic", "kelvin": 293.65},
        {"sensor": "cellar", "kelvin": 281.4},
    ]
    [letter] = read_lines(left_over)
    assert letter["item"] == {"sensor": "garden", "celsius": None}
    assert letter["error"].startswith("TypeError")


async def test_redrive_that_is_aborted_loses_no_letter(tmp_path: Path) -> None:
    """Each reading that counts as diverted is in the file, whatever cuts the run off."""
    readings, letters = tmp_path / "readings.jsonl", tmp_path / "letters.jsonl"
    write_lines(readings, [*[{"sensor": str(n), "celsius": None} for n in range(200)], {}])
    with pytest.raises(Aborted) as aborted:
        await program("redrive")(readings, tmp_path / "kelvins.jsonl", letters)
    diverted = aborted.value.report["to_kelvin"].diverted
    assert diverted == len({letter["item"]["sensor"] for letter in read_lines(letters)}) >= 100


# ---- order ----


async def test_order(tmp_path: Path) -> None:
    """No edit of a document is lost or out of order, while many documents are edited at once."""
    directory = tmp_path / "documents"
    directory.mkdir()
    edits = [{"document": name, "line": str(line)} for line in range(20) for name in "abc"]
    write_lines(tmp_path / "edits.jsonl", edits)
    report = await program("order")(tmp_path / "edits.jsonl", directory)
    assert report["edit"].completed == 60
    whole = "".join(f"{line}\n" for line in range(20))
    assert texts(directory) == dict.fromkeys("abc", whole)


# ---- merge ----


async def test_merge(tmp_path: Path) -> None:
    """The backlog and the readings of both stations end up in one file, once each."""
    backlog = [{"station": "backlog", "celsius": celsius} for celsius in range(10)]
    write_lines(tmp_path / "backlog.jsonl", backlog)

    async def send(station: str, stream: trio.SocketStream) -> None:
        async with stream:
            for celsius in (*range(10), -1000):
                line = json.dumps({"station": station, "celsius": celsius}).encode() + b"\n"
                await stream.send_all(line[:9])  # the lines may arrive in any pieces
                await stream.send_all(line[9:])

    async with (
        tcp_server(partial(send, "north")) as north,
        tcp_server(partial(send, "south")) as south,
    ):
        report = await program("merge")(
            tmp_path / "backlog.jsonl", tmp_path / "all.jsonl", north, south
        )
    stored = read_lines(tmp_path / "all.jsonl")
    assert sorted((reading["station"], reading["celsius"]) for reading in stored) == [
        (station, celsius) for station in ("backlog", "north", "south") for celsius in range(10)
    ]
    assert (report["plausible"].received, report["plausible"].discarded) == (32, 2)


# ---- a shared limiter ----


class Library:
    """A library with six shelves of two books, which records how many requests run at once."""

    def __init__(self) -> None:
        self.asked = 0
        self.most = 0

    async def answer(self, path: str) -> Reply:
        self.asked += 1
        self.most = max(self.most, self.asked)
        await wait_all_tasks_blocked(0.005)  # until all requests that can come have come
        self.asked -= 1
        match path.split("/")[1:]:
            case ["shelves"]:
                return Reply([1, 2, 3, 4, 5, 6])
            case ["shelves", shelf]:
                return Reply([10 * int(shelf) + place for place in range(2)])
            case [_, book]:
                return Reply({"title": f"book {book}", "text": f"once upon a time, {book}"})
        return Reply(status=404)


async def test_shared(tmp_path: Path) -> None:
    """All books are fetched, and the library never gets more than four requests at once."""
    library = Library()
    async with http_server(library.answer) as url:
        report = await program("shared")(url, tmp_path)
    books = [10 * shelf + place for shelf in range(1, 7) for place in range(2)]
    assert texts(tmp_path) == {f"book {book}": f"once upon a time, {book}" for book in books}
    assert [stage.completed for stage in report.steps] == [6, 12, 12]
    assert library.most == 4


# ---- overload ----


class Server:
    """A server that squares five numbers at once, and refuses further requests."""

    def __init__(self) -> None:
        self.asked = 0

    async def answer(self, path: str) -> Reply:
        if self.asked == 5:
            return Reply(status=503)
        self.asked += 1
        await wait_all_tasks_blocked(0.001)
        self.asked -= 1
        return Reply(int(path.removeprefix("/square/")) ** 2)


async def test_overload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The limit goes down while the server is overloaded, and all numbers are squared."""
    caplog.set_level(logging.INFO, "trio_turnstile")
    async with http_server(Server().answer) as url:
        report = await program("overload")(url, 60, tmp_path / "squares.jsonl", hold=0.05)
    assert sorted(read_lines(tmp_path / "squares.jsonl")) == [number**2 for number in range(60)]
    assert report["square"].retried > 0
    assert caplog.messages[0] == "api: 9 -> 7 (signal)"


# ---- batches ----

READINGS = [{"sensor": "attic", "minute": minute, "celsius": 20.5} for minute in range(250)]


async def test_batches(tmp_path: Path) -> None:
    """Readings that the table refuses become dead letters; the rest of their batch is stored."""
    refused = [
        {"sensor": "attic", "minute": 7, "celsius": 21.0},  # the second of that minute
        {"sensor": "attic", "minute": 250, "celsius": -300},
        {"sensor": None, "minute": 251, "celsius": 20.5},
    ]
    write_lines(tmp_path / "readings.jsonl", [*READINGS, *refused])
    report = await program("batches")(
        tmp_path / "readings.jsonl", tmp_path / "readings.db", tmp_path / "refused.jsonl"
    )
    stored = rows(tmp_path / "readings.db", "select sensor, minute, celsius from readings")
    assert sorted(stored) == [tuple(reading.values()) for reading in READINGS]
    assert [letter["item"] for letter in read_lines(tmp_path / "refused.jsonl")] == refused
    assert (report["store"].completed, report["store"].diverted) == (250, 3)
    assert report["store"].batches == {"size": 2, "flush": 1}


class FirstRecord(logging.Handler):
    """A handler that sets an event when something is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.logged = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.set()


async def test_batches_while_the_database_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is retried until the lock is released, and nothing is stored twice."""
    write_lines(tmp_path / "readings.jsonl", READINGS)
    watch = FirstRecord()
    monkeypatch.setattr(logging.getLogger("trio_turnstile.errors"), "handlers", [watch])
    with closing(sqlite3.connect(tmp_path / "readings.db", isolation_level=None)) as other:
        other.execute(contents("batches")["TABLE"])
        other.execute("begin immediate")
        async with trio.open_nursery() as nursery:
            files = [tmp_path / name for name in ("readings.jsonl", "readings.db", "refused.jsonl")]
            report = start(nursery, program("batches"), *files)
            with trio.fail_after(LIMIT):
                await watch.logged.wait()
            other.execute("commit")
    assert report()["store"].completed == 250
    assert report()["store"].retried >= 100
    assert rows(tmp_path / "readings.db", "select count(*) from readings") == [(250,)]


# ---- draining ----


class Commands:
    """Four commands; each reports that it has begun, and runs until it is told to end."""

    def __init__(self, directory: Path) -> None:
        self.begun = [directory / f"begun-{number}" for number in range(4)]
        self.end = [directory / f"end-{number}" for number in range(4)]
        for pipe in (*self.begun, *self.end):
            os.mkfifo(pipe)
        self.lines = [
            ["sh", "-c", f"echo > '{begun}'; exec cat '{end}'"]
            for begun, end in zip(self.begun, self.end, strict=True)
        ]
        self.file, self.unfinished = directory / "commands.jsonl", directory / "unfinished.jsonl"
        write_lines(self.file, self.lines)

    async def wait_begun(self, *numbers: int) -> None:
        for number in numbers:
            await trio.to_thread.run_sync(self.begun[number].read_text, abandon_on_cancel=True)
        await wait_all_tasks_blocked()

    async def let_end(self, number: int) -> None:
        await trio.to_thread.run_sync(self.end[number].write_text, "", abandon_on_cancel=True)


async def test_drain(tmp_path: Path) -> None:
    """After a signal, two running commands finish, and so does one that was read ahead."""
    commands = Commands(tmp_path)
    async with trio.open_nursery() as nursery:
        report = start(nursery, program("drain"), commands.file, commands.unfinished)
        await commands.wait_begun(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await wait_all_tasks_blocked()
        await commands.let_end(0)
        await commands.wait_begun(2)
        await commands.let_end(1)
        await commands.let_end(2)
    assert (report()["run"].received, report()["run"].completed) == (3, 3)
    assert read_lines(commands.unfinished) == []


@pytest.mark.parametrize(
    ("signals", "grace"),
    [([signal.SIGTERM], 0.0), ([signal.SIGTERM, signal.SIGINT], 30.0)],
    ids=["deadline", "second signal"],
)
async def test_drain_cut_short(tmp_path: Path, signals: list[signal.Signals], grace: float) -> None:
    """At the deadline or the second signal, running commands are stopped and written down."""
    commands = Commands(tmp_path)
    async with trio.open_nursery() as nursery:
        report = start(nursery, program("drain"), commands.file, commands.unfinished, grace)
        await commands.wait_begun(0, 1)
        for signum in signals:
            os.kill(os.getpid(), signum)
    assert (report()["run"].received, report()["run"].cancelled) == (3, 3)
    assert sorted(read_lines(commands.unfinished)) == sorted(commands.lines[:3])


# ---- at the shell ----


@pytest.mark.parametrize(
    ("name", "arguments", "line", "printed"),
    [
        (
            "redrive",
            ["load", "in", "out", "letters"],
            {"sensor": "attic", "celsius": 20.5},
            "to_kelvin: 1 of 1\nJsonLinesWriter: 1 of 1\n",
        ),
        ("order", ["in", "."], {"document": "a", "line": "once"}, "edit: 1 of 1\n"),
        ("batches", ["in", "out", "letters"], READINGS[0], "store: 1 of 1\n"),
        ("drain", ["in", "unfinished"], ["false"], "0 done, 1 failed, 0 cut off\n"),
    ],
)
def test_at_the_shell(
    name: str,
    arguments: list[str],
    line: object,
    printed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A program takes its arguments from the command line, and prints its counts."""
    write_lines(tmp_path / "in", [line])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    contents(name, run_name="__main__")
    assert capsys.readouterr().out == printed
