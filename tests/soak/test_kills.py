"""Kill trials: signals to the command at random moments. Nothing is left, torn, or hangs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

FACTOR = int(os.environ.get("TURNSTILE_SOAK", "1"))

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")

SIGNALS = [
    [signal.SIGINT],
    [signal.SIGINT, signal.SIGINT],
    [signal.SIGTERM],
    [signal.SIGHUP],
    [signal.SIGQUIT],
    [signal.SIGKILL],
    [signal.SIGINT, signal.SIGTERM],
    [signal.SIGTSTP, signal.SIGCONT, signal.SIGINT],
]
WORKS = [
    "sleep 0.05; echo {}",
    "echo begin {}; sleep 0.1; echo end {}",
    "trap '' INT TERM; sleep 0.1; echo {}",
    "(sleep 0.05 & wait); echo {}; exit 3",
    "head -c 100000 /dev/zero | tr '\\0' x; echo; echo {}",
]


def marked(mark: str) -> list[int]:
    """Return the processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [pid for pid in found if not _is_zombie(pid)]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("seed", range(10 * FACTOR))
def test_nothing_is_left_of_a_run_that_is_killed(tmp_path: Path, seed: int) -> None:
    """Whatever the signals and the commands are, and whenever the signals come."""
    dice = random.Random(seed)
    mark, log = f"TRIAL={uuid.uuid4()}", tmp_path / "log"
    command = [sys.executable, "-m", "trio_turnstile.cli", "run", "--limit", "3"]
    command += ["--joblog", str(log), "--work", dice.choice(WORKS)]
    if dice.random() < 0.5:
        command += ["--cleanup", "echo cleaned {} >> cleaned"]
    signals = dice.choice(SIGNALS)
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [*command, "--", *map(str, range(40))],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=tmp_path,
            env={**os.environ, "TRIAL": mark.removeprefix("TRIAL=")},
        )
        time.sleep(dice.uniform(0, 2.5))
        for number in signals:
            process.send_signal(number)
            time.sleep(dice.uniform(0, 0.3))
        try:
            process.wait(timeout=60)
        finally:
            if marked(mark):
                time.sleep(0.3)  # what is about to end is not left
            left = marked(mark)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    errors = (tmp_path / "err").read_text(errors="replace")
    if signal.SIGKILL not in signals:
        assert left == [], (signals, errors)
    # Before any of our code runs, an interrupt ends Python itself, with a traceback of its own.
    assert "Traceback" not in errors or "trio_turnstile" not in errors
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    assert all(line.endswith("\n") and line.count("\t") == lines[0].count("\t") for line in lines)
    for line in (tmp_path / "out").read_text().splitlines():
        words = line.split()
        assert set(line) == {"x"} or words[-1].isdecimal(), line
