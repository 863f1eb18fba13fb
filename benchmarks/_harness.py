"""Races: contestants are timed in turn, round by round, and compared as ratios.

A time depends on the machine and on its load, but the ratio of two times that were taken
side by side depends on them much less. So each round times every contestant once, and each
round begins with a different one. A ratio compares the best times of all rounds. The times
are processor time, because the contestants wait for nothing but the processor, and the
wall clock would include the time of other programs.
"""

from __future__ import annotations

import asyncio
import gc
import pkgutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import process_time
from typing import TypeAlias

import attrs
import trio

Run: TypeAlias = Callable[[], Awaitable[object]]
"""The code to time. It gets an event loop of its own."""


@attrs.frozen
class Contestant:
    """One of the programs in a race."""

    run: Run
    needs: str | None = None
    """What must be importable for it: ``module`` or ``module:name``."""
    on_asyncio: bool = False
    """Whether it runs on asyncio instead of trio."""

    @property
    def present(self) -> bool:
        """Whether it can run here."""
        try:
            pkgutil.resolve_name(self.needs or "trio")
        except (ImportError, AttributeError):
            return False
        return True

    def time(self) -> float:
        """Return how long it runs, in seconds of processor time."""
        if self.on_asyncio:
            return asyncio.run(_time(self.run))
        return trio.run(_time, self.run)


async def _time(run: Run) -> float:
    start = process_time()
    await run()
    return process_time() - start


@attrs.frozen
class Goal:
    """The most that a figure may be."""

    most: float
    less: bool = False
    """Whether the figure must be less than ``most``, and not equal."""

    def __str__(self) -> str:
        return f"{'<' if self.less else '<='} {self.most:.3g}"

    def met_by(self, value: float) -> bool:
        """Return whether ``value`` meets the goal."""
        return value < self.most if self.less else value <= self.most


@attrs.frozen
class Figure:
    """One line of the result of a benchmark."""

    what: str
    unit: str
    value: float | None = None
    """``None`` if it could not be measured."""
    spread: tuple[float, float] | None = None
    """The lowest and the highest value of a single round."""
    goal: Goal | None = None
    missing: str = ""
    """Why the figure could not be measured."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; ``None`` if there is no goal, or no value."""
        if self.goal is None or self.value is None:
            return None
        return self.goal.met_by(self.value)


@attrs.frozen
class Ratio:
    """Two contestants to compare: the time of ``ours`` divided by the time of ``peer``."""

    ours: str
    peer: str
    goal: Goal | None = None


@attrs.frozen
class Result:
    """The result of a benchmark."""

    figures: Sequence[Figure]
    seconds: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    """The times of each contestant, round by round."""


@attrs.frozen
class Benchmark:
    """Something to measure."""

    name: str
    title: str
    measure: Callable[[int], Result]
    """Measures it, in the given number of rounds."""


def race(
    name: str, title: str, contestants: Mapping[str, Contestant], ratios: Sequence[Ratio]
) -> Benchmark:
    """Return the benchmark that times the contestants and gives the ratios.

    Contestants whose module cannot be imported are left out.
    """

    def measure(rounds: int) -> Result:
        present = {who: each for who, each in contestants.items() if each.present}
        seconds = _time_all(present, rounds)
        return Result([_compare(ratio, contestants, seconds) for ratio in ratios], seconds)

    return Benchmark(name, title, measure)


def _time_all(contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {who: [] for who in contestants}
    order = list(contestants)
    for _ in range(rounds):
        for who in order:
            gc.collect()
            seconds[who].append(contestants[who].time())
        order.append(order.pop(0))
    return seconds


def _compare(
    ratio: Ratio, contestants: Mapping[str, Contestant], seconds: Mapping[str, Sequence[float]]
) -> Figure:
    what = f"{ratio.ours} / {ratio.peer}"
    if ratio.peer not in seconds:
        missing = f"{contestants[ratio.peer].needs} cannot be imported"
        return Figure(what, "x", goal=ratio.goal, missing=missing)
    ours, peer = seconds[ratio.ours], seconds[ratio.peer]
    by_round = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    spread = min(by_round), max(by_round)
    return Figure(what, "x", min(ours) / min(peer), spread, ratio.goal)
