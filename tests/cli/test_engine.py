"""Jobs that do the work of ``turnstile run``, as processes of this machine."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trio_turnstile.cli import _jobs


def run(call: Any, *arguments: object, **how: Any) -> Any:
    return call("run", "--engine", "local", *arguments, **how)


def left_files(here: Path) -> list[str]:
    """The files that jobs have left; ``here`` stays, by which the folder is known."""
    return sorted({path.name for path in (here / "turnstile-jobs").iterdir()} - {"here"})


def test_the_output_of_jobs_comes_back(call: Any, here: Path) -> None:
    """Each output goes to its stream, in order, and the files of the jobs are removed."""
    work = "echo {} of $PWD; echo bad {} >&2; test {} != b"
    result = run(call, "-k", "--work", work, "--", "a", "b", "two words;'")
    assert result.status == 1
    assert result.lines == [f"{name} of {here}" for name in ("a", "b", "two words;'")]
    assert [line for line in result.err.splitlines() if line.startswith("bad ")] == [
        *("bad a", "bad b", "bad two words;'")
    ]
    assert "2 'b': work: job " in result.err
    assert ": failed with exit status 1 on " in result.err
    assert left_files(here) == []


def test_the_job_log_has_the_job_and_its_node(
    call: Any, log_entries: Callable[[], list[list[str]]]
) -> None:
    """They replace the host; exit status, signal and size of the output are logged as usual."""
    work = "echo {}; ulimit -c 0; case {} in b) exit 143 ;; c) kill -SEGV $$ ;; esac"
    assert run(call, "--joblog", "log", "--work", work, "--", *"abc").status == 2
    entries = sorted(log_entries())
    assert [entry[5:8] for entry in entries] == [
        ["2", "0", "0"],
        ["2", "143", "0"],
        ["2", "0", "11"],
    ]
    for entry in entries:
        number, _, node = entry[1].partition("@")
        assert number.isdecimal()
        assert node == os.uname().nodename
        assert 0 <= float(entry[3]) < 60
    assert entries[0][8].startswith("echo 'a'; ulimit")


def test_only_the_work_is_a_job(call: Any, here: Path) -> None:
    """The other commands run where turnstile runs, and the monitor runs after the job has ended."""
    tell = "echo $TURNSTILE_PHASE $PPID"
    result = run(
        call,
        *("--prepare", f"{tell}; echo {{}} >x", "--work", f"{tell}; echo work >>x"),
        *("--monitor", f"{tell}; cat x", "--cleanup", f"{tell}; rm x", "--", "a"),
    )
    assert result.status == 0
    phases = dict(line.split() for line in result.lines if " " in line)
    assert list(phases) == ["prepare", "work", "monitor", "cleanup"]
    ours = str(os.getpid())
    assert [phase for phase, parent in phases.items() if parent != ours] == ["work"]
    assert [line for line in result.lines if " " not in line] == ["a", "work"]


def test_a_monitor_that_fails_fails_the_operation(call: Any, here: Path) -> None:
    """The monitor can check what the job has made."""
    result = run(call, "--work", "echo {} >x", "--monitor", "grep -q b x", "--", "a")
    assert result.status == 1
    assert "1 'a': monitor: exit status 1" in result.err


def test_a_job_finds_its_input_in_the_environment(call: Any, here: Path) -> None:
    """It finds the input and its columns, as local commands do, whatever they contain."""
    work = (
        'printf "%s|" "$TURNSTILE_INPUT_1" "$TURNSTILE_INPUT_2" $TURNSTILE_SEQ $TURNSTILE_ATTEMPT'
    )
    inputs = [os.fsdecode(b"caf\xe9"), "it's\n#$ -N x"]
    result = run(call, "--work", work, ":::", inputs[0], ":::", inputs[1])
    assert result.out == f"{inputs[0]}|{inputs[1]}|1|1|"


def test_a_job_may_use_another_shell(call: Any, here: Path) -> None:
    """The shell of --shell runs the script."""
    result = run(call, "--shell", "bash", "--work", "echo ${BASH_VERSION:+bash} {}", "--", "a")
    assert result.out == "bash a\n"


def test_the_limit_is_how_many_jobs_there_are(call: Any, gate: Any, here: Path) -> None:
    """Signals move the limit: no job is cancelled, and further ones start as others end."""

    def operate(watch: Any) -> None:
        assert len(gate.arrivals(3)) == 3
        watch.err.wait_for("jobs 3 (3 running), limit 3, running 3")
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("limit 3 -> 1")
        gate.let(2)
        watch.err.wait_for("jobs 1 (1 running), limit 1, running 1")
        watch.signal(signal.SIGUSR1)
        watch.err.wait_for("limit 1 -> 2")
        gate.arrivals(1)
        gate.let(9)

    result = run(
        call,
        *("-j3", "--hold", "0", "--work", gate.wait, "--", *"abcde"),
        operator=operate,
        terminal=True,
    )
    assert result.status == 0


def test_lines_come_while_a_job_runs(call: Any, gate: Any, here: Path) -> None:
    """With --line-buffer, lines come at once, and the rest at the end."""

    def operate(watch: Any) -> None:
        watch.err.wait_for("a\tbegin a")
        gate.arrivals(1)
        gate.let(1)

    work = f"echo begin {{}}; {gate.wait}; echo end {{}}"
    result = run(call, "--lb", "--tag", "--work", work, "--", "a", operator=operate, terminal=True)
    assert result.err.count("begin a") == 1
    assert result.err.count("a\tend a") == 1


def test_a_job_that_failed_is_tried_again(call: Any, here: Path) -> None:
    """The retry is a new job; the output of the failed job is dropped."""
    work = "echo try $TURNSTILE_ATTEMPT {}; [ $TURNSTILE_ATTEMPT = 3 ]"
    result = run(call, "--retries", "2", "--work", work, "--", "a")
    assert (result.status, result.out) == (0, "try 3 a\n")
    assert left_files(here) == []


def test_files_of_jobs_are_removed_while_the_run_goes_on(
    call: Any, gate: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of many jobs does not fill the folder; running jobs keep their files."""
    monkeypatch.setattr(_jobs, "_SWEEP", 0.05)

    def operate(watch: Any) -> None:
        gate.arrivals(2)
        assert len(tokens()) == 2
        gate.let(1)
        watch.wait_until(lambda: len(tokens()) == 1)
        gate.let(1)

    def tokens() -> set[str]:
        return {name.partition(".")[0] for name in left_files(here)}

    assert run(call, "-j2", "--work", gate.wait, "--", *"ab", operator=operate).status == 0


def test_the_output_of_jobs_can_be_kept(call: Any, here: Path) -> None:
    """It is kept in a folder for each operation, or in a table with the jobs."""
    run(call, "--results", "out", "--work", "echo {}; echo bad >&2", "--", "a")
    assert (here / "out/a/stdout").read_text() == "a\n"
    assert (here / "out/a/stderr").read_text() == "bad\n"
    run(call, "--results", "out.csv", "--work", "echo {}", "--", "a")
    with (here / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["Stdout"] == "a\n"
    assert row["Host"].endswith(f"@{os.uname().nodename}")


def test_a_time_limit_ends_a_job(call: Any, here: Path) -> None:
    """The error says so, and the job log shows the job as cut off."""
    result = run(call, "--time", "{}", "--joblog", "log", "--work", "sleep 99; : {}", "--", "1s")
    assert result.status == 1
    assert ": timed out by SIGTERM on " in result.err
    assert (here / "log").read_text().splitlines()[1].split("\t")[6:8] == ["-1", "15"]


def test_halting_now_cancels_jobs(call: Any, gate: Any, here: Path) -> None:
    """The jobs are gone when their clean-ups run."""
    first = f"{gate.wait}; exit 1"
    second = "touch up; trap 'rm up; exit' TERM; sleep 99 & wait"
    work = f"case {{}} in a) {first} ;; esac; {second}"
    cleanup = "case {} in b) ls up ;; esac"

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.wait_until((here / "up").exists)
        gate.let(1)

    result = run(
        call,
        *("-j2", "--halt", "now,fail=1", "--cleanup", cleanup, "--work", work, "--", *"ab"),
        operator=operate,
    )
    assert "1 failed, 1 cancelled" in result.err
    assert result.out == ""


def test_with_quiet_nothing_is_told(call: Any, here: Path) -> None:
    """Jobs that complete print no notes."""
    assert run(call, "-q", "--work", "true {}", "--", "a").err == ""
