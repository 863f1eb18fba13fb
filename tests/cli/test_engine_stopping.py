"""Runs whose jobs go on: stopped, killed, started again, or without word from the controller."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from trio_turnstile import LedgerEntry, read_ledger
from trio_turnstile.cli import _job_run

TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from trio_turnstile.cli import main; main(sys.argv[1:])"
)

RUN = ("run", "--engine", "local")


def entries() -> dict[str, LedgerEntry]:
    with read_ledger("db") as read:
        return {entry.identity: entry for entry in read}


def lines(path: str) -> list[str]:
    return sorted(Path(path).read_text().splitlines())


# ---- signals ----


@pytest.mark.slow
def test_ctrl_c_lets_jobs_end_and_a_second_one_cancels_them(
    spawn: Any, gate: Any, here: Path
) -> None:
    """At a terminal, Ctrl-C reaches neither the jobs nor the commands that submit and poll."""
    work = f"trap 'exit 9' TERM; {gate.wait}"
    run = spawn(
        *(*RUN, "-j2", "--joblog", "log", "--cleanup", "echo clean {}", "--work", work),
        *("--", *"abc"),
        options=("-c", TERMINAL),
        terminal=True,
    )
    gate.arrivals(2)
    run.watch.err.wait_for("jobs 2 (2 running)")
    run.watch.type("\x03")
    run.watch.err.wait_for("SIGINT: starting nothing more, and letting running operations finish")
    gate.let(1)
    run.watch.err.wait_for("draining, jobs 1 (1 running), limit 2, running 1, done 1 of 3")
    run.watch.type("\x03")
    result = run.finish()
    assert result.status == 130
    assert "1 completed, 0 failed, 1 cancelled" in result.err
    assert "refused" not in result.err
    assert "controller" not in result.err
    assert result.err.count("clean ") == 2
    assert sorted(line.split("\t")[6] for line in lines("log")[:2]) == ["-1", "0"]


def test_a_drained_run_brings_the_output_back(spawn: Any, gate: Any, here: Path) -> None:
    """It also runs the monitor, so the running operations complete."""
    options = ("-j1", "--monitor", "echo seen {}", "--work", f"{gate.wait}; echo {{}}")
    run = spawn(*RUN, *options, "--", *"ab")
    gate.arrivals(1)
    run.watch.signal(signal.SIGTERM)
    run.watch.err.wait_for("SIGTERM")
    gate.let(1)
    result = run.finish()
    assert (result.status, result.lines) == (143, ["a", "seen a"])


@pytest.mark.slow
def test_a_job_that_was_cancelled_has_ended_when_its_clean_up_runs(
    spawn: Any, gate: Any, here: Path
) -> None:
    """This also holds for a job that ends slowly; its output is printed."""
    work = f"trap 'sleep 0.5; echo end; rm up' TERM; touch up; {gate.wait} & wait; wait"
    run = spawn(*RUN, "--cleanup", "ls up; echo clean", "--work", work, "--", "a")
    gate.arrivals(1)
    run.watch.signal(signal.SIGTERM)
    run.watch.err.wait_for("SIGTERM")
    run.watch.signal(signal.SIGTERM)
    result = run.finish()
    assert result.lines == ["end", "clean"]


# ---- ledgers ----


def test_a_killed_run_goes_on_with_its_jobs(call: Any, spawn: Any, gate: Any, here: Path) -> None:
    """No job is submitted twice, and output printed in the meantime is not lost."""
    work = f"echo {{}} >>ran; {gate.wait}; echo end {{}}"
    command = (*RUN, "--ledger", "db", "-j2", "--prepare", "echo {} >>prepared", "--work", work)
    first = spawn(*command, "--", *"abc")
    gate.arrivals(2)
    jobs = {name: entry.facts["token"] for name, entry in entries().items()}
    first.watch.wait_until(lambda: all("job" in entry.facts for entry in entries().values()))
    first.watch.signal(signal.SIGKILL)
    first.finish()
    gate.let(1)

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        gate.let(2)

    second = call(*command, "--joblog", "log", "--", *"cba", operator=operate)
    assert second.status == 0
    assert sorted(second.lines) == ["end a", "end b", "end c"]
    assert lines("ran") == lines("prepared") == ["a", "b", "c"]
    known = entries()
    assert {name: known[name].facts["token"] for name in "ab"} == jobs
    assert all(entry.facts["node"] for entry in known.values())
    numbers = {entry.facts["job"] for entry in known.values()}
    assert {line.split("\t")[1].partition("@")[0] for line in lines("log")[:3]} == numbers


def test_a_run_killed_before_it_knew_the_job_looks_for_it(
    call: Any, spawn: Any, gate: Any, here: Path
) -> None:
    """The job had been submitted, but its number had not been noted."""
    command = (*RUN, "--ledger", "db", "--work", f"echo {{}} >>ran; {gate.wait}", "--", "a")
    first = spawn(*command)
    gate.arrivals(1)
    first.watch.signal(signal.SIGKILL)
    first.finish()
    with closing(sqlite3.connect("db")) as connection, connection:
        connection.execute("DELETE FROM facts WHERE name = 'job'")
    gate.let(1)
    assert call(*command).status == 0
    assert lines("ran") == ["a"]


@pytest.mark.slow
def test_detached_jobs_go_on_and_the_next_run_takes_them_over(
    call: Any, spawn: Any, gate: Any, here: Path
) -> None:
    """The first signal detaches them, and they are not cleaned up."""
    work = f"echo {{}} >>ran; {gate.wait}; echo end {{}}"
    options = ("--ledger", "db", "--detach", "-j2", "--cleanup", "echo clean {}", "--work", work)
    command = (*RUN, *options, "--")
    first = spawn(*command, *"abc")
    gate.arrivals(2)
    first.watch.signal(signal.SIGTERM)
    result = first.finish()
    assert (result.status, result.out) == (143, "")
    assert "SIGTERM: leaving the jobs running; the same command goes on with them" in result.err
    assert "0 completed, 0 failed, 2 left running in" in result.err
    assert result.err.rstrip().endswith("; 1 not started")
    assert [entry.is_open for entry in entries().values()] == [True, True, False]
    gate.let(3)
    second = call(*command, *"abc")
    assert second.status == 0
    assert sorted(second.lines) == [*("clean a", "clean b", "clean c", "end a", "end b", "end c")]
    assert lines("ran") == ["a", "b", "c"]


def test_a_ledger_knows_the_engine_and_the_folder_of_its_jobs(call: Any, here: Path) -> None:
    """Another engine or folder would not find the jobs."""
    work = ("--ledger", "db", "--work", "true {}", "--", "a")
    assert call(*RUN, *work).status == 0
    refused = call("run", *work)
    assert refused.status == 2
    assert "--engine\n  was local\n  is now absent" in refused.err
    refused = call(*RUN, "--job-dir", "other", *work)
    assert "--job-dir\n  was " in refused.err


def test_a_job_of_another_engine_is_not_done_again(
    call: Any, spawn: Any, gate: Any, here: Path
) -> None:
    """It is not, even if the user accepts the change, because the job may still run."""
    work = ("--ledger", "db", "--work", gate.wait, "--", "a")
    first = spawn(*RUN, *work)
    gate.arrivals(1)
    first.watch.wait_until(lambda: "job" in entries()["a"].facts)
    first.watch.signal(signal.SIGKILL)
    first.finish()
    number = entries()["a"].facts["job"]
    other = call("run", "--accept-changes", *work)
    assert other.status == 1
    assert f"an earlier run submitted it with --engine local, as job {number}" in other.err
    gate.let(1)


# ---- when the controller is away ----


@pytest.fixture
def away(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file: while it is there, polls fail."""
    folder, down = here / "bin", here / "down"
    folder.mkdir()
    (folder / "ps").write_text(
        f"#!/bin/sh\nif [ -e {down} ]; then echo no route >&2; exit 1; fi\n"
        f'exec {shutil.which("ps")} "$@"\n'
    )
    (folder / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return down


def test_without_word_from_the_controller_the_run_waits(call: Any, gate: Any, away: Path) -> None:
    """The progress shows since when; nothing is lost."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        away.touch()
        watch.err.wait_for("cannot be reached; jobs keep their states: no route")
        watch.err.wait_for("controller unreachable since ")
        gate.let(1)
        away.unlink()
        watch.err.wait_for("can be reached again")

    result = call(
        *(*RUN, "--work", f"{gate.wait}; echo end {{}}", "--", "a"),
        operator=operate,
        terminal=True,
    )
    assert result.status == 0
    assert "end a" in result.err


@pytest.mark.slow
def test_a_job_that_cannot_be_cancelled_is_left_to_the_next_run(
    call: Any, gate: Any, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is told, and the job is not cleaned up, because it may go on."""
    monkeypatch.setattr(_job_run, "_CANCEL", 0.3)

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        away.touch()
        watch.err.wait_for("cannot be reached")
        watch.signal(signal.SIGTERM)
        watch.err.wait_for("SIGTERM")
        watch.signal(signal.SIGTERM)

    options = (
        "--ledger",
        "db",
        "--cleanup",
        "echo clean {}",
        "--work",
        f"trap : TERM; {gate.wait}",
    )
    result = call(*RUN, *options, "--", "a", operator=operate)
    assert (result.status, result.out) == (143, "")
    assert " could not be cancelled, and may go on" in result.err
    assert "1 left running" in result.err
    assert entries()["a"].is_open
    away.unlink()
    gate.let(1)
    again = call(*RUN, *options, "--", "a")
    assert again.out == "clean a\n"
