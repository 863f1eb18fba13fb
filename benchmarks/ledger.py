"""The cost of a ledger: ``python -m benchmarks.ledger``.

Operations that wait are run with and without a ledger, in turn. The times are wall-clock times,
because the process waits for the disk and computes nothing meanwhile. The ratio compares the best
times. Memory and sizes are measured in processes of their own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

import attrs
import trio

from trio_turnstile import Channels, Scalable, open_ledger, run_phases

from .memory import peak

ROOT = Path(__file__).parents[1]
MANY = 1_000_000


@attrs.frozen
class Waits(Scalable):
    """Works for some time; its clean-up exists, but does nothing."""

    number: int
    seconds: float

    @property
    def identity(self) -> str:
        return f"input {self.number}"

    async def work(self, channels: Channels) -> None:
        if self.seconds:
            await trio.sleep(self.seconds)

    async def cleanup(self, channels: Channels) -> None:
        pass


async def seconds_of(operations: int, each: float, limit: int, path: Path | None) -> float:
    """Run operations, with a ledger if there is a path; return how many seconds they take."""
    made: Iterator[Scalable] = (Waits(number, each) for number in range(operations))
    async with AsyncExitStack() as stack:
        ledger = None if path is None else await stack.enter_async_context(open_ledger(path))
        start = perf_counter()
        report = await run_phases(made, limiter=limit, ledger=ledger)
        seconds = perf_counter() - start
    assert report.completed + report.skipped == operations
    return seconds


def compare(operations: int, each: float, limit: int, rounds: int) -> None:
    """Print the cost of operations without a ledger and with one, run in turn."""
    without: list[float] = []
    recorded: list[float] = []
    for _ in range(rounds):
        without.append(trio.run(seconds_of, operations, each, limit, None))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.db"
            recorded.append(trio.run(seconds_of, operations, each, limit, path))
            size = path.stat().st_size / operations
    before, after = min(without), min(recorded)
    more = 1e6 * (after - before) / operations
    print(
        f"{operations} operations of {1000 * each:g} ms, {limit} tokens: {before:.3f} s without, "
        f"{after:.3f} s with a ledger: {after / before:.3f} times, {more:.0f} µs more for each; "
        f"{size:.0f} bytes for each"
    )


def scale(count: int) -> None:
    """Print memory, size and times of a ledger of many operations."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.db"
        alone = _child("-", count)
        first, again = _child(str(path), count), _child(str(path), count)
        print(
            f"{count} no-ops: {alone[0]:.0f} MiB, {alone[2]:.1f} s without a ledger; "
            f"{first[0]:.0f} MiB, {first[2]:.1f} s with one; "
            f"{path.stat().st_size / count:.0f} bytes for each"
        )
        print(
            f"the next run: {again[1]:.2f} s to open, {again[2]:.1f} s to skip all, "
            f"{again[0]:.0f} MiB"
        )


def _child(path: str, count: int) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.ledger", "--child", path, "--count", str(count)]
    child = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return [float(word) for word in child.stdout.split()]


async def _in_child(path: str, count: int) -> None:
    """Print the peak memory in MiB, and how many seconds opening and running took."""
    opened = 0.0
    if path != "-":
        start = perf_counter()
        async with open_ledger(path):
            opened = perf_counter() - start
    ran = await seconds_of(count, 0, 10, None if path == "-" else Path(path))
    print(peak(), opened, ran)


def main() -> None:
    """Measure everything, or what the options select."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5; 0 for none")
    parser.add_argument(
        "--count", type=int, default=MANY, metavar="N", help="default: a million; 0 for none"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        trio.run(_in_child, options.child, options.count)
        return
    if options.rounds:
        compare(1_000, 0.05, 10, options.rounds)
        compare(3_000, 0.001, 10, options.rounds)
        compare(3_000, 0, 10, options.rounds)
    if options.count:
        scale(options.count)


if __name__ == "__main__":
    main()
