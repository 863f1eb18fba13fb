"""Kill trials of sinks: a program that loads orders is killed and started again until it ends.

Between two runs the orders are shuffled, and more are added.
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

import trio_turnstile

from .sinks import Row, Sink, lines_of, write_orders

PATIENCE = 120.0
"""Seconds after which a run that nobody kills is considered to hang."""


@attrs.frozen
class SinkTrial:
    """The actions of one trial; all but the exact moments of the kills follow from the seed."""

    seed: int
    orders: int
    """How many orders there are at first."""
    added: int
    """How many orders are added for each run."""
    kills: int
    """How many times the program is killed."""


@attrs.frozen
class Stored:
    """The content of the database after a trial."""

    wanted: Counter[Row]
    found: Counter[Row]
    killed: int
    """How many runs were killed before they ended."""

    @property
    def lost(self) -> int:
        """How many lines are missing."""
        return (self.wanted - self.found).total()

    @property
    def doubled(self) -> int:
        """How many lines are there too often."""
        return (self.found - self.wanted).total()


def kill_and_go_on(trial: SinkTrial, sink: Sink, program: Path, folder: Path) -> Stored:
    """Run the program, kill it as often as the trial says, and let the last run end."""
    draw = random.Random(trial.seed)
    killed = 0
    for run in range(trial.kills + 1):
        orders = range(trial.orders + run * trial.added)
        write_orders(folder / "orders.jsonl", orders, f"{trial.seed} {run}")
        process = _start(program, sink, folder)
        try:
            if run < trial.kills:
                _wait(process, sink, draw, lines_of(orders).total(), trial.kills - run)
                process.send_signal(signal.SIGKILL)
            status = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
        killed += status == -signal.SIGKILL
        errors = (folder / "errors").read_text()
        assert status in (0, -signal.SIGKILL), errors
    return Stored(lines_of(orders), sink.rows(), killed)


def _start(program: Path, sink: Sink, folder: Path) -> subprocess.Popen[bytes]:
    package = Path(trio_turnstile.__file__).parent.parent
    with (folder / "errors").open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, str(program), str(folder / "orders.jsonl"), *sink.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": str(package)},
        )


def _wait(
    process: subprocess.Popen[bytes], sink: Sink, draw: random.Random, total: int, kills: int
) -> None:
    """Wait for a random moment: near the beginning, or when some more lines are stored.

    The number of these lines is limited, so that something is left to do for the next kills.
    """
    if draw.random() < 0.1:
        time.sleep(draw.uniform(0, 0.6))
        return
    before = sink.count()
    wanted = before + draw.uniform(0, 2 * (total - before) / (kills + 1))
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and sink.count() <= wanted:
        assert time.monotonic() < deadline, "the run does not go on"
        time.sleep(0.002)
    time.sleep(draw.choice([0, draw.uniform(0, 0.01)]))
