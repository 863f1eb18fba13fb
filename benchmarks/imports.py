"""How long the import takes compared with trio, each in fresh interpreters, in turn."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from ._harness import Benchmark, Figure, Goal, Result

OURS, TRIO = "from trio_turnstile import Limiter, open_turnstile", "import trio"
FRONT_ENDS = "from trio_turnstile import Producer"


def measure(rounds: int) -> Result:
    """Compare the best times, which include the start of the interpreter."""
    seconds: dict[str, list[float]] = {OURS: [], TRIO: [], FRONT_ENDS: []}
    for _ in range(2 * rounds):
        for statement, times in seconds.items():
            times.append(_time(statement))
    best = {statement: min(times) for statement, times in seconds.items()}
    return Result(
        [
            Figure(f"{OURS} / {TRIO}", "x", best[OURS] / best[TRIO], goal=Goal(1.3)),
            Figure(f"{FRONT_ENDS} / {TRIO}", "x", best[FRONT_ENDS] / best[TRIO]),
        ],
        seconds,
    )


def _time(statement: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return perf_counter() - start


BENCHMARKS = (Benchmark("import", "the import, in a fresh interpreter", measure),)
