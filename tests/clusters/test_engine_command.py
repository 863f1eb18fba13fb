"""``turnstile run --engine`` on a real Slurm and a real Grid Engine, which the tests start."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

import trio_turnstile
from trio_turnstile.clusters import SlurmEngine

if TYPE_CHECKING:
    from conftest import Site

pytestmark = pytest.mark.slow

PATIENCE = 120.0
"""Seconds after which a test no longer waits for an event, and fails."""

TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from trio_turnstile.cli import main; main(sys.argv[1:])"
)


@attrs.frozen
class Command:
    """The command, for one engine, in its own folder."""

    site: Site
    folder: Path
    environment: Mapping[str, str]

    @property
    def is_slurm(self) -> bool:
        return isinstance(self.site.engine, SlurmEngine)

    def arguments(self, *options: str) -> list[str]:
        return ["run", "--engine", "slurm" if self.is_slurm else "sge", *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trio_turnstile.cli", *self.arguments(*options)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str, str]:
        """Run it to the end; return its exit status and its output."""
        process = self.start(*options)
        out, err = process.communicate(timeout=PATIENCE)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return sorted(path.read_text().splitlines()) if path.exists() else []

    def entries(self) -> dict[str, dict[str, object]]:
        """What the ledger knows, by input."""
        shown = subprocess.run(
            [sys.executable, "-m", "trio_turnstile.cli", "ledger", "db", "--json"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            check=False,
            text=True,
        )
        return {entry["input"]: entry for entry in map(json.loads, shown.stdout.splitlines())}


@pytest.fixture
def command(site: Site, tmp_path: Path) -> Command:
    """The command, in an empty folder."""
    environment = {**os.environ, **getattr(site.engine, "environment", {})}
    package = Path(trio_turnstile.__file__).parent.parent
    programs = getattr(site.engine, "programs", "")
    environment |= {"PYTHONPATH": str(package), "PATH": f"{programs}:{os.environ['PATH']}"}
    return Command(site, tmp_path, environment)


def until(true: Callable[[], bool]) -> None:
    """Look again and again until it is true; for events that nothing announces."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_jobs_end_and_their_output_comes_back(command: Command) -> None:
    """Exit statuses and signals are right, in the order of the inputs, whatever these contain."""
    inputs = ["plain", "it's two", "new\nline\n#$ -N x\n#SBATCH --hold", *map(str, range(1, 17))]
    work = (
        "printf '<%s>' {} \"$TURNSTILE_SEQ\"; echo err >&2; ulimit -c 0; "
        'case {} in 9) kill -SEGV $$ ;; 1*) exit 99 ;; esac; [ "$PWD" = '
        + str(command.folder)
        + " ]"
    )
    options = ("-k", "--joblog", "log", "-j", "30", "--work", work)
    status, out, err = command.run(*options, "--", *inputs)
    assert status == 9, err
    assert out == "".join(f"<{text}><{number}>" for number, text in enumerate(inputs, 1))
    assert err.splitlines().count("err") == len(inputs)
    assert "exit status 99 on " in err
    assert "failed by SIGSEGV on " in err
    log = [line.split("\t") for line in (command.folder / "log").read_text().splitlines()[1:]]
    assert sorted(entry[6] for entry in log) == ["0"] * 11 + ["99"] * 8
    assert [entry[7] for entry in log].count("11") == 1
    hosts = [entry[1].partition("@") for entry in log]
    assert len({number for number, _, _ in hosts}) == len(inputs)
    assert all(node for _, _, node in hosts)
    assert {path.name for path in (command.folder / "turnstile-jobs").iterdir()} == {"here"}


def test_resources_come_from_columns(command: Command) -> None:
    """They reach the cluster; a refusal by the cluster is reported."""
    shown = (
        "scontrol show job $SLURM_JOB_ID | tr ' ' '\\n' | grep -e TimeLimit -e CPUs/Task"
        if command.is_slurm
        else "qstat -j $JOB_ID | grep 'hard resource_list'"
    )
    options = ["--colsep", ",", "--time", "{2}"]
    options += ["--cpus", "{3}"] if command.is_slurm else ["--submit-args", "-v A={3}"]
    status, out, err = command.run(*options, "--work", f": {{1}}; echo $A; {shown}", "--", "a,2h,2")
    assert status == 0, err
    if command.is_slurm:
        assert {"TimeLimit=02:00:00", "CPUs/Task=2"} <= set(out.split())
    else:
        assert "h_rt=7200" in out
        assert out.startswith("2\n")
    status, _, err = command.run("--submit-args=--no-such-option", "--work", "true {}", "--", "a")
    assert status == 1
    assert "1 'a': work: the cluster refuses the job: " in err


def test_ctrl_c_at_a_terminal(command: Command) -> None:
    """The first one lets jobs end, the second one cancels them; then the clean-ups run."""
    ours, theirs = pty.openpty()
    work = "echo {} >>begun; case {} in a) sleep 4 ;; *) sleep 300 ;; esac"
    options = ("-j2", "--work", work, "--cleanup", "echo {} >>cleaned", "--", *"abc")
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *command.arguments(*options)],
        cwd=command.folder,
        env={**command.environment, "TERM": "xterm", "COLUMNS": "150"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    until(lambda: command.lines("begun") == ["a", "b"])
    os.write(ours, b"\x03")
    until(lambda: command.lines("cleaned") == ["a"])
    os.write(ours, b"\x03")
    shown = ""
    try:
        while text := os.read(ours, 1 << 16):
            shown += text.decode(errors="replace")
    except OSError:  # so a terminal ends
        os.close(ours)
    assert process.wait(PATIENCE) == 130, shown
    assert "SIGINT: starting nothing more" in shown
    assert "1 completed, 0 failed, 1 cancelled in " in shown
    assert command.lines("cleaned") == ["a", "b"]
    assert command.lines("begun") == ["a", "b"]


def test_the_controller_is_stopped_for_a_while(command: Command) -> None:
    """The run says so, and waits; jobs that are submitted meanwhile are submitted once."""
    inputs = [str(number) for number in range(12)]
    work = "echo {} >>ran-{}; sleep 5; exit $((TURNSTILE_SEQ % 2))"
    process = command.start("-j", "8", "--work", work, "--", *inputs)
    until(lambda: sum(bool(command.lines(f"ran-{number}")) for number in inputs) >= 4)
    command.site.signal_controller(signal.SIGTERM)
    time.sleep(25)
    command.site.restart()
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 6, err
    assert "cannot be reached; jobs keep their states: " in err
    assert "can be reached again" in err
    assert err.count("with exit status 1 on ") == 6
    assert [command.lines(f"ran-{number}") for number in inputs] == [[number] for number in inputs]


@pytest.mark.parametrize("arrays", [(), ("--arrays", "15")])
def test_a_killed_run_goes_on_with_its_jobs(command: Command, arrays: tuple[str, ...]) -> None:
    """It is killed again and again, submits nothing twice, and each input has one outcome."""
    inputs = [str(number) for number in range(40)]
    work = "echo {} >>ran-{}; sleep 3; exit $((TURNSTILE_SEQ % 3))"
    options = (*arrays, "--ledger", "db", "-j", "15", "--work", work, "--", *inputs)
    for seconds in (1.5, 2.0, 2.5, 3.0):
        process = command.start(*options)
        time.sleep(seconds)
        process.kill()
        process.communicate()
    _, _, err = command.run(*options)
    outcomes = [entry["outcome"] for entry in command.entries().values()]
    assert (outcomes.count("completed"), outcomes.count("failed")) == (13, 27), err
    assert [command.lines(f"ran-{number}") for number in inputs] == [[number] for number in inputs]


def test_detached_jobs_go_on(command: Command) -> None:
    """A signal detaches them, and the next run takes them over."""
    options = ("--ledger", "db", "--detach", "--work", "echo {} >>ran; sleep 5; echo out {}")
    process = command.start(*options, "--", *"ab")
    until(lambda: command.lines("ran") == ["a", "b"])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "2 left running" in err
    status, out, err = command.run(*options, "--", *"abc")
    assert status == 0, err
    assert sorted(out.splitlines()) == ["out a", "out b", "out c"]
    assert command.lines("ran") == ["a", "b", "c"]


def test_inputs_are_tasks_of_arrays(command: Command) -> None:
    """Their ends and outputs are right, and as many run at a time as the limit says."""
    work = (
        "echo {} >>began; until [ -e go ]; do sleep 0.3; done; "
        "echo out {}; exit $((TURNSTILE_SEQ % 3))"
    )
    inputs = [str(number) for number in range(1, 31)]
    options = ("--arrays", "20", "-k", "-j", "5", "--min", "0", "--down", "5", "--hold", "0")
    process = command.start(*options, "--joblog", "log", "--work", work, "--", *inputs)
    until(lambda: len(command.lines("began")) == 5 or process.poll() is not None)
    time.sleep(2)
    assert len(command.lines("began")) == 5
    process.send_signal(signal.SIGUSR2)
    time.sleep(6)  # until the engine has been told, on a busy machine too
    (command.folder / "go").touch()
    until(lambda: len(command.lines("log")) == 6)
    time.sleep(2)
    assert len(command.lines("began")) == 5
    for _ in range(5):
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 20, err
    assert out.splitlines() == [f"out {number}" for number in inputs]
    log = [line.split("\t") for line in (command.folder / "log").read_text().splitlines()[1:]]
    assert sorted(entry[6] for entry in log) == ["0"] * 10 + ["1"] * 10 + ["2"] * 10
    assert len({entry[1].partition("@")[0] for entry in log}) == 30
    assert {path.name for path in (command.folder / "turnstile-jobs").iterdir()} == {"here"}
