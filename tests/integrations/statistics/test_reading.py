"""Reading what was recorded, and what a row can hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.recorded import Recorded
from trio_turnstile import ConcurrentError, Consumer, Producer, Skip, open_turnstile
from trio_turnstile.integrations.statistics import (
    StatisticsError,
    _schema,
    read_statistics,
    record_statistics,
)
from trio_turnstile.integrations.statistics._rows import TEXT, as_json, error_row, text, tokens


async def test_a_curve_is_by_the_minute_once_its_samples_are_gone(
    database: Recorded, autojump_clock: MockClock
) -> None:
    """Two runs with one name are distinguished by how their ids begin."""
    autojump_clock.autojump_threshold = math.inf  # no time passes while it is opened or written
    async with (
        open_turnstile(name="night") as turnstile,
        record_statistics(turnstile, database.url, every=1e6),
    ):
        turnstile.limiter("api", 3)
        autojump_clock.autojump_threshold = 0
        await trio.sleep(600)
        autojump_clock.autojump_threshold = math.inf
    by_samples = read_statistics(database.url).limiters[0]
    assert 10 < len(by_samples.points) <= 300
    database.execute("DELETE FROM turnstile_samples")
    session = read_statistics(database.url, run=turnstile.id[:8])
    (limiter,) = session.limiters
    assert session.name == "night"
    assert limiter.points
    assert {point.limit for point in limiter.points} == {3}


async def test_a_run_is_read_with_its_steps_errors_and_decisions(
    database: Recorded, autojump_clock: MockClock
) -> None:
    """A run is read with its steps, and its counts are those of its report."""

    async def work(item: int) -> None:
        await trio.sleep(1)
        if item == 3:
            raise OSError("no route to host")

    autojump_clock.autojump_threshold = math.inf
    async with (
        open_turnstile() as turnstile,
        record_statistics(turnstile, database.url, every=1e6),
    ):
        limiter = turnstile.limiter("api", 3)
        autojump_clock.autojump_threshold = 0
        await (Producer(range(60)) | Consumer(work, limiter=limiter, on_error=Skip())).run()
        limiter.down()
        autojump_clock.autojump_threshold = math.inf
    session = read_statistics(database.url)
    (decision,) = session.limiters[0].decisions
    assert (decision.before, decision.after, decision.reason) == (3, 1, "signal")
    (run,) = session.runs
    (step,) = run.steps
    assert (step.counts["received"], step.counts["completed"], step.counts["failed"]) == (60, 59, 1)
    assert step.progress
    assert [error.step for error in run.errors] == ["work"]
    assert dict(run.error_types) == {"OSError": 1}


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A file without statistics is not mistaken for a recording, either."""
    path = tmp_path / "none.db"
    with pytest.raises(StatisticsError, match=r"there is no file '.*none\.db'"):
        read_statistics(f"sqlite:///{path}")
    assert not path.exists()
    path.touch()
    with pytest.raises(StatisticsError, match="there are no statistics in sqlite:"):
        read_statistics(f"sqlite:///{path}")


async def test_a_run_that_is_not_there_is_an_error(database: Recorded) -> None:
    """The error lists the names that exist."""
    async with open_turnstile() as turnstile, record_statistics(turnstile, database.url):
        pass
    with pytest.raises(StatisticsError, match=r"no run is named 'x' in .*; there are: none"):
        read_statistics(database.url, run="x")
    database.execute("DELETE FROM turnstile_sessions")
    with pytest.raises(StatisticsError, match="there are no statistics in"):
        read_statistics(database.url)


def test_a_server_that_is_not_there_is_an_error() -> None:
    """An unreachable server is an error that does not show the password."""
    with pytest.raises(StatisticsError, match="cannot be read: OperationalError") as failed:
        read_statistics("postgresql://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(failed.value)


async def test_tables_of_an_older_version_are_upgraded(
    database: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older tables are upgraded by the statements of each version in between."""
    async with open_turnstile() as turnstile, record_statistics(turnstile, database.url):
        pass
    upgrade = "ALTER TABLE turnstile_runs ADD COLUMN colour TEXT"
    monkeypatch.setattr(_schema, "VERSION", 2)
    monkeypatch.setitem(_schema.UPGRADES, 2, (upgrade,))
    async with open_turnstile() as turnstile, record_statistics(turnstile, database.url):
        pass
    assert database.value("SELECT version FROM turnstile_meta") == 2
    assert database.rows("SELECT colour FROM turnstile_runs") == []


# ---- rows ----


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_any_text_can_be_stored() -> None:
    """Long texts are cut; NUL and lone surrogates are replaced."""
    assert text("x" * (TEXT + 1)) == "x" * (TEXT - 1) + "…"
    assert text("a\0b\udc80") == "a\N{REPLACEMENT CHARACTER}b?"
    assert text(7) == "7"


def test_any_evidence_can_be_stored() -> None:
    """Any evidence is stored as JSON that every database can read."""
    circle: list[Any] = []
    circle.append(circle)
    assert json.loads(as_json({"cap": math.inf, "more": (1, "a\0")})) == {
        "cap": "inf",
        "more": [1, "a\N{REPLACEMENT CHARACTER}"],
    }
    assert json.loads(as_json({(1, 2): 3})) == "{(1, 2): 3}"
    assert json.loads(as_json({"at": Path("x")}))["at"].endswith("Path('x')")
    assert json.loads(as_json(circle)) == "[[...]]"


@pytest.mark.parametrize(("limit", "stored"), [(3, 3.0), (math.inf, None), (10**400, None)])
def test_no_limit_is_null(limit: float, stored: float | None) -> None:
    """A limit that is too large for a database is null, too."""
    assert tokens(limit) == stored


def test_an_item_whose_repr_raises_is_named_by_its_type() -> None:
    """An item whose repr raises is named by its type, and its error is stored."""
    row = error_row(ConcurrentError("bad", item=Odd(), phase="work"), 1)
    assert row["item"] == "<Odd, whose repr raises RuntimeError>"
    assert error_row(ConcurrentError("bad"), 1)["item"] is None


async def test_passwords_of_the_command_line_are_not_stored(
    database: Recorded, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords are left out of the command line, and the rest of it is stored."""
    autojump_clock.autojump_threshold = math.inf
    command = ["work", "--statistics", "postgresql://me:s3cret@host/runs", "mail@here"]
    monkeypatch.setattr("sys.orig_argv", command)
    async with open_turnstile() as turnstile, record_statistics(turnstile, database.url):
        pass
    stored = read_statistics(database.url).command
    assert stored == "work --statistics postgresql://me:***@host/runs mail@here"
