"""Measure ours against the peers, and print the ratios beside their goals."""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs

from . import (
    amounts,
    imports,
    latency,
    limiters,
    many,
    memory,
    observed,
    phases,
    pipelines,
    policy,
    shapes,
)
from ._harness import Benchmark, Figure, Result

BENCHMARKS = (
    *limiters.BENCHMARKS,
    *amounts.BENCHMARKS,
    *phases.BENCHMARKS,
    *pipelines.BENCHMARKS,
    *shapes.BENCHMARKS,
    *policy.BENCHMARKS,
    *latency.BENCHMARKS,
    *memory.BENCHMARKS,
    *many.BENCHMARKS,
    *observed.BENCHMARKS,
    *imports.BENCHMARKS,
)


def main() -> None:
    """Run the benchmarks that are asked for."""
    options = _parse()
    results: dict[str, Any] = {}
    for benchmark in BENCHMARKS:
        if options.only and benchmark.name not in options.only:
            continue
        result = benchmark.measure(options.rounds)
        _show(benchmark, result)
        results[benchmark.name] = _as_json(benchmark, result)
    if options.json is not None:
        everything = {"on": _machine(), "rounds": options.rounds, "benchmarks": results}
        options.json.write_text(json.dumps(everything, indent=2) + "\n")


def _parse() -> argparse.Namespace:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=_positive, default=9, metavar="N", help="default: 9")
    parser.add_argument(
        "--only", choices=names, action="append", metavar="NAME", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"it must be at least 1, not {number}")
    return number


def _machine() -> dict[str, str]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": version("trio"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _show(benchmark: Benchmark, result: Result) -> None:
    print(f"\n{benchmark.name}: {benchmark.title}")
    for figure in result.figures:
        print(f"  {figure.what:<54}{_value(figure)}{_goal(figure)}", flush=True)


def _value(figure: Figure) -> str:
    if figure.value is None:
        return f"skipped: {figure.missing}"
    spread = "({:.2f} to {:.2f})".format(*figure.spread) if figure.spread else ""
    return f"{figure.value:6.2f} {figure.unit}  {spread}"


def _goal(figure: Figure) -> str:
    if figure.met is None:
        return ""
    return f"  goal {figure.goal}: {'met' if figure.met else 'MISSED'}"


def _as_json(benchmark: Benchmark, result: Result) -> dict[str, Any]:
    figures = [
        {**attrs.asdict(figure), "goal": figure.goal and str(figure.goal), "met": figure.met}
        for figure in result.figures
    ]
    return {"title": benchmark.title, "figures": figures, "seconds": dict(result.seconds)}


if __name__ == "__main__":
    main()
