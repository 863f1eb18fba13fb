"""The peak memory of a million operations, less that of ten thousand.

Each number has a process of its own, since a peak never comes down. It is the peak
of what is resident, as Linux tells it, and so has in it all that `tracemalloc` does
not see.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio

from trio_turnstile import run_phases

from ._harness import Benchmark, Figure, Goal, Result
from .phases import AT_ONCE, FourPhases

FEW = 10_000
MANY = 1_000_000
STATUS = Path("/proc/self/status")


def measure(_rounds: int) -> Result:
    """Return the difference; it hardly varies, so one round is enough."""
    what, goal = f"{MANY:,} operations less {FEW:,}", Goal(30)
    if not STATUS.exists():
        return Result([Figure(what, "MiB", goal=goal, missing=f"there is no {STATUS} here")])
    return Result([Figure(what, "MiB", _peak_of(MANY) - _peak_of(FEW), goal=goal)])


def _peak_of(operations: int) -> float:
    command = [sys.executable, "-m", __name__, str(operations)]
    root = Path(__file__).parents[1]
    child = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE)
    return float(child.stdout)


async def _run(operations: int) -> None:
    report = await run_phases((FourPhases() for _ in range(operations)), limiter=AT_ONCE)
    assert report.completed == operations


def _peak() -> float:
    """Return the peak of this process, in MiB."""
    # Not getrusage(): there, a child starts from the peak of its parent.
    lines = STATUS.read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) / 1024


BENCHMARKS = (Benchmark("memory", "peak memory of operations from a generator", measure),)

if __name__ == "__main__":
    trio.run(_run, int(sys.argv[1]))
    print(_peak())
