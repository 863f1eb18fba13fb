"""Kill trials of ``turnstile run``: real processes, and signals at random moments.

Every process of a trial has a mark in its environment, so that processes left over can be found.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

import trio_turnstile

MARK = "TURNSTILE_TRIAL"

PATIENCE = 45.0
"""Seconds after which a command that got a signal is considered to hang."""

COMMANDS = {
    "quick": "echo {#}:end",
    "fails": "echo {#}:end; exit 3",
    "waits": "echo {#}:begin; sleep 0.2; echo {#}:end",
    "spawns": "(sleep 0.3; echo {#}:child) & sleep 0.2; wait; echo {#}:end",
    "deaf": "trap '' TERM INT HUP; echo {#}:begin; sleep 0.3; sleep 0.3; echo {#}:end",
    "deaf with a child": "trap '' TERM; (sleep 0.5; echo {#}:child) & sleep 0.3; wait;"
    " echo {#}:end",
    "stays": "trap '' TERM INT HUP; echo {#}:begin; sleep 100; echo {#}:end",
    "writes": "i=0; while [ $i -lt 900 ]; do echo {#}:$i:" + 90 * "x" + "; i=$((i+1)); done;"
    " echo {#}:end",
}
"""The commands, by what they do. They write one line at a time, so no line is torn."""

LINE = re.compile(rb"\d+:(begin|child|end|clean|\d+:x{90})")
JOBLOG_LINE = re.compile(r"\d+\t:\t[\d.]+\t *[\d.]+\t0\t\d+\t-?\d+\t\d+\t.+")
SUMMARY = re.compile(r"turnstile: (\d+) completed, (\d+) failed(?:, (\d+) cancelled)? in .*")

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.frozen
class KillPlan:
    """The actions of one trial, which all follow from the seed."""

    seed: int
    command: str
    inputs: int
    options: tuple[str, ...]
    signals: tuple[tuple[float, signal.Signals], ...]
    """Seconds before each signal, and the signals."""
    at_once: bool
    """Whether time counts from the start of the process, not from the first line of the job log."""

    @property
    def unheeded(self) -> bool:
        """Whether it is killed by a signal that no process can handle."""
        return any(signum == signal.SIGKILL for _, signum in self.signals)


def kill_plan(seed: int) -> KillPlan:
    """Return the trial of a seed."""
    draw = random.Random(seed)
    limit = draw.choice([1, 3, 8])
    first = draw.choice([*STOPS, *STOPS, *STOPS, signal.SIGQUIT, signal.SIGKILL])
    signals = [(draw.choice([0, draw.uniform(0, 0.4)]), first)]
    if first in STOPS and draw.random() < 0.6:
        second = draw.choice([signal.SIGINT, *STOPS, signal.SIGQUIT])
        signals.append((draw.choice([0.001, draw.uniform(0, 0.4)]), second))
    command = draw.choice([*COMMANDS, "stays", "stays"])
    if command == "stays" and first in STOPS:
        # It takes two signals to end it, and two equal signals at the same time count as one.
        second = draw.choice([*(stop for stop in STOPS if stop != first), signal.SIGQUIT])
        signals = [signals[0], (draw.uniform(0.05, 0.5), second)]
    options = ["-j", str(limit), "--kill-after", draw.choice(["0.1", "0.3"]), "--grace", "1"]
    options += ["--retries", "1"] if draw.random() < 0.3 else []
    options += ["--cleanup", "echo {#}:clean"] if draw.random() < 0.5 else []
    options += ["--quiet"] if draw.random() < 0.2 else []
    return KillPlan(
        seed=seed,
        command=command,
        inputs=draw.choice([3, 10, 200]),
        options=tuple(options),
        signals=tuple(signals),
        at_once=draw.random() < 0.15,
    )


@attrs.frozen
class Killed:
    """The state after a trial."""

    plan: KillPlan
    status: int
    out: bytes
    err: str
    joblog: str
    left: dict[int, str]
    """The processes that were left over, by their id."""

    @property
    def sent(self) -> set[int]:
        """The signals that were meant for it."""
        return {signum for _, signum in self.plan.signals}

    def check(self) -> None:
        """Check what holds after every signal."""
        self._check_left()
        self._check_out()
        self._check_joblog()
        if self._met_python():
            return
        if not self.plan.unheeded:
            assert "Traceback" not in self.err, self.err
            assert "Exception ignored" not in self.err, self.err
        self._check_status()

    def _met_python(self) -> bool:
        """Return whether Ctrl-C came while Python was starting, or importing the command."""
        early = self.plan.at_once and signal.SIGINT in self.sent and not self.joblog
        if not early or "Traceback" not in self.err:
            return False
        return self.status == -signal.SIGINT or "/trio_turnstile/cli/" not in self.err

    def _check_left(self) -> None:
        assert self.plan.unheeded or not self.left, self.left

    def _check_out(self) -> None:
        *lines, last = self.out.split(b"\n")
        # A kill may come while the last output is written.
        assert last == b"" or signal.SIGKILL in self.sent or signal.SIGQUIT in self.sent, last
        seen: list[bytes] = []
        for line in lines:
            assert LINE.fullmatch(line), line
            number = line.split(b":")[0]
            if not seen or seen[-1] != number:
                seen.append(number)
        assert len(seen) == len(set(seen)), "outputs are mixed"
        for number in seen:
            self._check_whole(number, [line for line in lines if line.startswith(number + b":")])

    def _check_whole(self, number: bytes, lines: list[bytes]) -> None:
        numbers = [int(line.split(b":")[1]) for line in lines if line.endswith(b"x")]
        assert numbers == list(range(len(numbers))), f"lines of {number!r} are missing"
        if number + b":end" in lines and self.plan.command == "writes":
            assert len(numbers) == 900

    def _check_joblog(self) -> None:
        *lines, last = self.joblog.split("\n")
        assert last == "", last
        for line in lines[1:]:
            assert JOBLOG_LINE.fullmatch(line), line
        numbers = [line.split("\t")[0] for line in lines[1:]]
        assert len(numbers) == len(set(numbers))

    def _check_status(self) -> None:
        summary = SUMMARY.search(self.err)
        # A signal may come after the run, or before it begins, and end the process directly.
        ends = {-signum for signum in self.sent}
        if summary is not None:
            assert self.status in ends | self._statuses(summary), (self.status, summary[0])
        elif "--quiet" in self.plan.options:
            most = min(101, max(self.joblog.count("\n"), 0))
            ends |= {128 + signum for signum in self.sent} | set(range(most + 1))
            assert self.status in ends, (self.status, self.err)
        else:  # it ended before the run began, or by a signal that leaves no time for a summary
            ends |= {128 + signum for signum in self.sent - {signal.SIGKILL}}
            assert self.status in ends, (self.status, self.err)

    def _statuses(self, summary: re.Match[str]) -> set[int]:
        completed, failed = int(summary[1]), int(summary[2])
        if failed:
            return {min(failed, 101)}
        if completed == self.plan.inputs:
            return {0}
        # If several signals come at once, any of them may be the first for the run.
        return {128 + signum for signum in self.sent if signum in STOPS}


def kill(plan: KillPlan, folder: Path) -> Killed:
    """Start the command, send the signals, wait for its end, and return what is left."""
    mark = f"{os.getpid()}-{plan.seed}-{time.monotonic_ns()}"
    joblog, out, err = folder / "joblog", folder / "out", folder / "err"
    package = Path(trio_turnstile.__file__).parent.parent
    command = [sys.executable, "-m", "trio_turnstile.cli", "run", *plan.options]
    command += ["--joblog", str(joblog), "--work", COMMANDS[plan.command], "--"]
    command += map(str, range(plan.inputs))
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
            env={**os.environ, "PYTHONPATH": str(package), MARK: mark},
        )
    try:
        if not plan.at_once:
            _wait_for(joblog, process)
        for seconds, signum in plan.signals:
            time.sleep(seconds)
            process.send_signal(signum)
        status = process.wait(PATIENCE)
        left = dict(marked(mark))
        if left:  # a killed process may need a moment to disappear
            time.sleep(0.2)
            left = dict(marked(mark))
    finally:
        for pid, _ in marked(mark):
            os.kill(pid, signal.SIGKILL)
        process.wait()
    return Killed(
        plan,
        status,
        out.read_bytes(),
        err.read_text(errors="replace"),
        joblog.read_text() if joblog.exists() else "",
        left,
    )


def _wait_for(joblog: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not (joblog.exists() and joblog.stat().st_size):
        assert time.monotonic() < deadline, "the run does not begin"
        time.sleep(0.005)


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Yield the processes that have the mark and are alive, each with its command line."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                text = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(folder.name), text.decode(errors="replace")
        except OSError:  # it has ended, or is not ours
            continue
