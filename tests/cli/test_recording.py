"""``turnstile run --statistics``: real runs that are recorded in a database."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from trio_turnstile.integrations.statistics import SessionRecord, read_statistics


def test_a_run_is_recorded(call: Any, tmp_path: Path) -> None:
    """It has counts and errors for turnstile report; a second run does not replace it."""
    database = tmp_path / "runs.db"
    first = call("run", "--statistics", database, "--work", "test {} != b", "--", *"abc")
    second = call("run", "--statistics", f"sqlite:///{database}", "--work", "true", "--", *"de")
    assert (first.status, second.status) == (1, 0)
    report = call("report", database, "--run", "test {} != b")
    assert report.status == 0
    assert re.search(r"operations +3 +2 +1 ", report.out)
    assert recorded(database).runs[0].steps[0].counts["completed"] == 2
    assert recorded(database).ended is not None


def recorded(database: Path) -> SessionRecord:
    return read_statistics(f"sqlite:///{database}")


@pytest.mark.slow
def test_the_page_shows_earlier_runs(spawn: Any, gate: Any, tmp_path: Path) -> None:
    """The API of the page returns points of an earlier run of the same command."""
    database = tmp_path / "runs.db"
    command = ("run", "--statistics", database, "-j3", "--dashboard", 0, "--work")
    earlier = spawn(*command, gate.wait, "--", 1)
    gate.arrivals(1)
    earlier.watch.wait_until(lambda: len(points_of(earlier)) > 3)
    gate.let(1)
    assert earlier.finish().status == 0
    began = time.time()
    run = spawn(*command, gate.wait, "--", 1)
    gate.arrivals(1)
    older = [at for at in points_of(run) if at < began]
    gate.let(1)
    assert run.finish().status == 0
    assert older
    assert older[0] >= recorded(database).started - 60


def points_of(run: Any) -> list[float]:
    """Ask the API of a page for the last hour."""
    run.watch.err.wait_for("#token=")
    run.watch.wait_until(lambda: re.search(r"#token=\S+\s", run.watch.err.so_far))
    found = re.search(r"dashboard: (\S+)#token=(\S+)\s", run.watch.err.so_far)
    assert found
    url, token = found.groups()
    path = f"{url}api/v1/limiters/work/history?since={time.time() - 3600}"
    request = Request(path, headers={"authorization": f"Bearer {token}"})
    with urlopen(request) as answer:
        history = json.load(answer)
    assert history["missing"] is None
    times: list[float] = history["times"]
    return times


@pytest.mark.parametrize(
    ("database", "why"),
    [
        ("mysql://host/runs", "statistics are kept in SQLite or PostgreSQL, not in mysql"),
        ("notes.txt", "notes.txt"),
    ],
)
def test_what_is_no_database(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, why: str
) -> None:
    """It is a usage error, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("These are notes, and no database. " * 100)
    result = call("run", "--statistics", database, "--work", "echo", "--", 1)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("turnstile: --statistics: ")
    assert why in result.err
    assert len(result.err.splitlines()) == 2


def test_without_the_extra(spawn: Any) -> None:
    """The message says what to install, and nothing is run."""
    hide = "import sys; sys.modules['sqlalchemy'] = None"
    code = f"{hide}; from trio_turnstile.cli import main; main(sys.argv[1:])"
    arguments = ("run", "--statistics", "runs.db", "--work", "echo", "--", 1)
    result = spawn(*arguments, options=("-c", code)).finish()
    assert (result.status, result.out) == (2, "")
    assert "pip install 'trio-turnstile[stats,postgres]'" in result.err


def test_a_database_that_is_away(call: Any) -> None:
    """The run goes on; the user is told once that it is not recorded, and what was lost."""
    address = "postgresql://nobody:secret@127.0.0.1:1/none"
    result = call("run", "--statistics", address, "--work", "echo", "--", 1)
    assert (result.status, result.lines) == (0, ["1"])
    assert result.err.count("--statistics: statistics cannot be stored") == 1
    assert "could not be stored: " in result.err
    assert "Traceback" not in result.err
    assert "secret" not in result.err
