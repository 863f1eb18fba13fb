"""The sinks of the documentation store each line once, whatever happens after the commit."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from testkit.sinks import (
    EXAMPLES,
    Sink,
    SQLiteSink,
    lines_of,
    order,
    postgres_sink,
    write_orders,
)
from trio_turnstile import Aborted
from trio_turnstile.testing import assert_conserved

LIMIT = 60.0
"""After so many seconds something must be wrong; nothing here takes two."""


@pytest.fixture(params=["sqlite", "postgres"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """Return each of the sinks, with its own database."""
    if request.param == "sqlite":
        yield SQLiteSink(tmp_path)
        return
    with postgres_sink(request.getfixturevalue("postgres"), tmp_path) as made:
        yield made


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Return a file of orders."""
    path = tmp_path / "orders.jsonl"
    write_orders(path, range(100), 0)
    return path


def program(sink: Sink) -> dict[str, Any]:
    """Return the names that the program of a sink defines."""
    return runpy.run_path(str(sink.program))


async def perform(names: dict[str, Any], sink: Sink, orders: Path) -> Any:
    """Run the main function of the program, with a time limit and a check of its books."""
    with trio.fail_after(LIMIT):
        report = await names["main"](orders, *sink.arguments)
    assert_conserved(report)
    return report


def after_commits(names: dict[str, Any], act: Callable[[int], None]) -> None:
    """Make each commit call ``act`` with its number, once it has been made."""
    write, commits = names["write"], 0

    def write_and_act(*arguments: Any) -> None:
        nonlocal commits
        write(*arguments)
        commits += 1
        act(commits)

    names["main"].__globals__["write"] = write_and_act


@contextmanager
def spoiled(orders: Path) -> Iterator[None]:
    """Put a value that is not a number into the last line of an order."""
    text = orders.read_text()
    orders.write_text(text.replace('"cents": 97', '"cents": [97]'))
    yield
    orders.write_text(text)


def test_every_program_is_on_the_page() -> None:
    """The page shows each of its programs once, and no other."""
    page = (EXAMPLES.parent / "pipelines.rst").read_text()
    shown = re.findall(r"^\.\. literalinclude:: examples/(.+)$", page, re.MULTILINE)
    assert sorted(shown) == sorted(path.name for path in EXAMPLES.glob("sink_*.py"))


async def test_a_second_run_stores_what_is_new(sink: Sink, orders: Path) -> None:
    """A second run skips all orders of the first one."""
    first = await perform(program(sink), sink, orders)
    assert first["split"].completed == 100
    write_orders(orders, range(150), 1)
    second = await perform(program(sink), sink, orders)
    assert (second["split"].skipped, second["split"].completed) == (100, 50)
    assert sink.rows() == lines_of(range(150))


async def test_a_run_that_is_cut_off_after_a_commit_stores_nothing_twice(
    sink: Sink, orders: Path
) -> None:
    """After a cut-off, the ledger does not know what is stored, but the marks do."""

    def fail(commits: int) -> None:
        raise RuntimeError("cut off after the commit")

    names = program(sink)
    after_commits(names, fail)
    with pytest.raises(Aborted):
        await perform(names, sink, orders)
    stored = sink.count()
    assert 0 < stored <= lines_of(range(100)).total()
    report = await perform(program(sink), sink, orders)
    assert report["store"].completed == lines_of(range(100)).total()
    assert sink.rows() == lines_of(range(100))


async def test_without_its_ledger_a_sink_still_stores_nothing_twice(
    sink: Sink, orders: Path
) -> None:
    """Without the ledger all is done again, and the marks keep all of it out."""
    await perform(program(sink), sink, orders)
    sink.ledger.unlink()
    report = await perform(program(sink), sink, orders)
    assert report["split"].skipped == 0
    assert sink.rows() == lines_of(range(100))


async def test_a_batch_that_fails_is_not_stored_in_part(sink: Sink, orders: Path) -> None:
    """Rows and marks are written together, or not at all."""
    with spoiled(orders), pytest.raises(Aborted):
        await perform(program(sink), sink, orders)
    await perform(program(sink), sink, orders)
    assert sink.rows() == lines_of(range(100))


async def test_a_lost_connection_is_tried_again(postgres: str, tmp_path: Path) -> None:
    """A lost connection does no harm, whether its commit was made or not: the marks know."""
    import psycopg

    orders = tmp_path / "orders.jsonl"
    write_orders(orders, range(300), 0)

    def lose(commits: int) -> None:
        if commits % 2:
            raise psycopg.OperationalError("the connection was lost")

    with postgres_sink(postgres, tmp_path) as sink:
        names = program(sink)
        after_commits(names, lose)
        report = await perform(names, sink, orders)
        assert report["store"].retried > 0
        assert report["store"].failed == 0
        assert sink.rows() == lines_of(range(300))


def test_at_the_shell(
    sink: Sink, orders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program takes its arguments from the command line, and prints its counts."""
    monkeypatch.setattr(sys, "argv", [sink.program.name, str(orders), *sink.arguments])
    for printed in ("150 lines stored, 0 orders skipped\n", "0 lines stored, 100 orders skipped\n"):
        runpy.run_path(str(sink.program), run_name="__main__")
        assert capsys.readouterr().out == printed
    assert order(3)["id"] in {identity for identity, *_ in sink.rows()}
