"""The peak memory of a million items, minus the peak memory of ten thousand.

Each number of items has a process of its own, because a peak never comes down. The figure
is the peak of the resident memory, as reported by Linux. So it includes memory that
`tracemalloc` does not see.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from trio_turnstile import Consumer, Processor, Producer, run_phases

from ._harness import Benchmark, Figure, Goal, Result
from .phases import AT_ONCE, FourPhases
from .pipelines import work

FEW = 10_000
MANY = 1_000_000
STATUS = Path("/proc/self/status")


async def phases(operations: int) -> None:
    report = await run_phases((FourPhases() for _ in range(operations)), limiter=AT_ONCE)
    assert report.completed == operations


async def pipeline(items: int) -> None:
    step = Processor(work, limiter=AT_ONCE)
    report = await (Producer(range(items)) | step | step | Consumer(work, limiter=AT_ONCE)).run()
    assert report.steps[-1].completed == items


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {
    "operations": phases,
    "items through three stages": pipeline,
}


def measure(_rounds: int) -> Result:
    """Return the differences, which hardly vary, so one round is enough."""
    return Result([_measure(kind) for kind in KINDS])


def _measure(kind: str) -> Figure:
    what, goal = f"{MANY:,} {kind} less {FEW:,}", Goal(30)
    if not STATUS.exists():
        return Figure(what, "MiB", goal=goal, missing=f"there is no {STATUS} here")
    return Figure(what, "MiB", _peak_of(kind, MANY) - _peak_of(kind, FEW), goal=goal)


def _peak_of(kind: str, items: int) -> float:
    command = [sys.executable, "-m", __name__, kind, str(items)]
    root = Path(__file__).parents[1]
    child = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE)
    return float(child.stdout)


def peak() -> float:
    """Return the peak of this process, in MiB."""
    # Not getrusage(): with it, a child starts from the peak of its parent.
    lines = STATUS.read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) / 1024


BENCHMARKS = (Benchmark("memory", "peak memory of items that are made one by one", measure),)

if __name__ == "__main__":
    trio.run(partial(KINDS[sys.argv[1]], int(sys.argv[2])))
    print(peak())
