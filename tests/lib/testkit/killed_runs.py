"""Runs with a ledger that are killed: real processes, and SIGKILL at random moments.

``python -m testkit.killed_runs FOLDER COUNT SEED`` is such a run. Each phase adds a line to a log,
in a single write, so the log shows what happened in which order, no matter when the run is killed.
The work phase also has an idempotent effect: a file that is written as a whole.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import attrs
import trio

import trio_turnstile
from testkit.phases import EachPhase
from trio_turnstile import open_ledger, read_ledger, run_phases

PATIENCE = 60.0
"""Seconds after which a run is considered to hang."""

LINE = 8
"""The length of each line of the log: a letter, a space, five digits."""


class Effect(EachPhase):
    """Writes its phases into the log, and leaves a file."""

    def __init__(self, number: int, folder: Path, log: int) -> None:
        self.number = number
        self.file = folder / "done" / str(number)
        self.log = log

    @property
    def identity(self) -> str:
        return str(self.number)

    async def phase(self, name: str) -> None:
        os.write(self.log, f"{name[0]} {self.number:05}\n".encode())
        await trio.lowlevel.checkpoint()
        if name == "work":
            new = self.file.with_suffix(f".{os.getpid()}")
            new.write_text(str(self.number))
            new.replace(self.file)


async def run(folder: Path, count: int, seed: int) -> None:
    """Run operations in an order that follows from the seed."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    numbers = list(range(count))
    random.Random(seed).shuffle(numbers)
    async with open_ledger(folder / "run.db") as ledger:
        operations = (Effect(number, folder, log) for number in numbers)
        report = await run_phases(operations, limiter=20, ledger=ledger)
    assert report.completed + report.skipped == count, report


@attrs.define
class KilledRuns:
    """Runs in one folder, and what is known about them."""

    folder: Path
    draw: random.Random
    seen: int = 0
    """How many lines of the log were checked."""
    begun: set[int] = attrs.field(factory=set)
    """The operations that had begun and not ended when a run was killed."""
    done: set[int] = attrs.field(factory=set)
    works: Counter[int] = attrs.field(factory=Counter)

    def go(self, count: int, *, kill_within: int | None) -> None:
        """Start a run, perhaps kill it within ``kill_within`` lines of the log, and check it."""
        process = self._start(count)
        try:
            if kill_within is not None:
                self._wait_for(self.seen + self.draw.randrange(kill_within), process)
                time.sleep(self.draw.uniform(0, 0.002))
                process.send_signal(signal.SIGKILL)
            status = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        assert status == 0 if kill_within is None else status in (0, -signal.SIGKILL)
        self._check_log()
        self._check_ledger()

    def _start(self, count: int) -> subprocess.Popen[bytes]:
        (self.folder / "done").mkdir(exist_ok=True)
        here = Path(__file__).parents[1]
        path = os.pathsep.join([str(here), str(Path(trio_turnstile.__file__).parents[1])])
        arguments = [str(self.folder), str(count), str(self.draw.randrange(10**6))]
        return subprocess.Popen(
            [sys.executable, "-m", __name__, *arguments], env={**os.environ, "PYTHONPATH": path}
        )

    def _wait_for(self, lines: int, process: subprocess.Popen[bytes]) -> None:
        log, deadline = self.folder / "log", time.monotonic() + PATIENCE
        while process.poll() is None and not (log.exists() and log.stat().st_size >= lines * LINE):
            assert time.monotonic() < deadline, "the run does not go on"
            time.sleep(0.001)

    def _check_log(self) -> None:
        """Check that nothing is done twice, and that clean-ups come first."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        firsts: dict[int, str] = {}
        for line in lines[self.seen :]:
            number = int(line[2:])
            firsts.setdefault(number, line[0])
            self.works[number] += line[0] == "w"
        assert not self.done & firsts.keys(), "what had been done was done again"
        for number, first in firsts.items():
            assert first == "c" if number in self.begun else first in "pc", (number, first)
        self.seen = len(lines)
        self.begun |= firsts.keys()

    def _check_ledger(self) -> None:
        """Check that the ledger has all begun operations, and remember which are done."""
        if not (self.folder / "run.db").exists():
            assert not self.begun
            return
        with read_ledger(self.folder / "run.db", run=None) as entries:
            known = {int(entry.identity): entry for entry in entries}
        assert self.begun <= known.keys()
        self.done = {number for number, entry in known.items() if not entry.is_open}
        self.begun -= self.done
        assert {known[number].outcome for number in self.done} <= {"completed"}

    def check_whole(self, count: int) -> None:
        """Check that all operations are done, and that each effect is there once."""
        assert self.done == set(range(count))
        assert not self.begun
        assert {number for number, works in self.works.items() if works} == self.done
        for number in self.done:
            assert (self.folder / "done" / str(number)).read_text() == str(number)


def trial(folder: Path, *, operations: int, more: int, kills: int, seed: int) -> KilledRuns:
    """Kill a run ``kills`` times, with more operations each time; then let it end."""
    runs = KilledRuns(folder, random.Random(seed))
    count = operations
    for _ in range(kills):
        runs.go(count, kill_within=5 * operations // kills)
        count += more
    runs.go(count, kill_within=None)
    runs.check_whole(count)
    return runs


if __name__ == "__main__":
    trio.run(run, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
