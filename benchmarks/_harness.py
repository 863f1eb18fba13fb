"""Races: contestants are timed in turn, round by round, and compared as ratios.

A time depends on the machine and on what else it does; the ratio of two that were
taken side by side does so much less. Hence each round times every contestant once,
each time with another one first, and a ratio is that of the best times of all rounds.
What is timed is the processor's time, as nobody here waits for anything else: the
clock on the wall would count what other programs took.
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
"""What to time. It has an event loop of its own."""


@attrs.frozen
class Contestant:
    """One of those who race."""

    run: Run
    needs: str | None = None
    """What has to be importable for it: ``module`` or ``module:name``."""
    on_asyncio: bool = False
    """Whether it runs on asyncio, and not on trio."""

    @property
    def present(self) -> bool:
        """Whether it can run here."""
        try:
            pkgutil.resolve_name(self.needs or "trio")
        except (ImportError, AttributeError):
            return False
        return True

    def time(self) -> float:
        """Return how long it runs, in seconds of the processor's time."""
        if self.on_asyncio:
            return asyncio.run(_time(self.run))
        return trio.run(_time, self.run)


async def _time(run: Run) -> float:
    start = process_time()
    await run()
    return process_time() - start


@attrs.frozen
class Goal:
    """What a figure ought to be."""

    most: float
    less: bool = False
    """Whether it has to be less than that."""

    def __str__(self) -> str:
        return f"{'<' if self.less else '<='} {self.most:.3g}"

    def met_by(self, value: float) -> bool:
        """Tell whether ``value`` is as it ought to be."""
        return value < self.most if self.less else value <= self.most


@attrs.frozen
class Figure:
    """One line of what a benchmark found."""

    what: str
    unit: str
    value: float | None = None
    """``None`` if it could not be had."""
    spread: tuple[float, float] | None = None
    """The least and the most that a single round gave."""
    goal: Goal | None = None
    missing: str = ""
    """What is missing, so that it could not be had."""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; ``None`` if there is no goal, or no value."""
        if self.goal is None or self.value is None:
            return None
        return self.goal.met_by(self.value)


@attrs.frozen
class Ratio:
    """Two contestants whose times are to be compared: the one's over the other's."""

    ours: str
    peer: str
    goal: Goal | None = None


@attrs.frozen
class Result:
    """What a benchmark found."""

    figures: Sequence[Figure]
    seconds: Mapping[str, Sequence[float]] = attrs.field(factory=dict)
    """The times of each contestant, round by round."""


@attrs.frozen
class Benchmark:
    """Something to measure."""

    name: str
    title: str
    measure: Callable[[int], Result]
    """Measures it in so many rounds."""


def race(
    name: str, title: str, contestants: Mapping[str, Contestant], ratios: Sequence[Ratio]
) -> Benchmark:
    """Return the benchmark that times the contestants and gives the ratios.

    Contestants whose module cannot be imported stay out.
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
