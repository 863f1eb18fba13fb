"""`Reader`: reads the numbers of a turnstile, in its trio run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import final

import attrs
import trio

from trio_turnstile import Limiter, PipelineReport, Report, RunReport, StepReport, Totals, Turnstile

from ._metrics import Key, Numbers, add

PORTION = 250
"""How many limiters are read before other tasks can run."""


@final
@attrs.frozen
class Reader:
    """Reads the numbers of a turnstile, in its trio run."""

    turnstile: Turnstile
    group: Callable[[str], str]
    detail: bool

    def read(self) -> Numbers:
        """Return all numbers at one moment."""
        numbers: Numbers = defaultdict(float)
        self._add_limiters(numbers, self.turnstile.limiters)
        self._add_runs(numbers)
        return numbers

    async def read_in_portions(self) -> Numbers:
        """Return all numbers; other tasks run meanwhile."""
        numbers: Numbers = defaultdict(float)
        names = list(self.turnstile.limiters)
        for start in range(0, len(names) + 1, PORTION):
            await trio.lowlevel.checkpoint()
            self._add_limiters(numbers, names[start : start + PORTION])
        self._add_runs(numbers)
        return numbers

    def _add_limiters(self, numbers: Numbers, names: Iterable[str]) -> None:
        limiters = self.turnstile.limiters
        for name in names:
            if name not in limiters:  # it was closed meanwhile
                continue
            limiter, shown = limiters[name], self.group(name)
            load = limiter.load()
            numbers["turnstile_limiter_limit", shown] += load.limit
            numbers["turnstile_limiter_running", shown] += load.running
            numbers["turnstile_limiter_waiting", shown] += load.waiting
            _add_totals(numbers, shown, limiter.totals())
            if self.detail:
                _add_details(numbers, shown, limiter)

    def _add_runs(self, numbers: Numbers) -> None:
        for name, run in self.turnstile.runs.items():
            report = run.report()
            add(numbers, counts_of(name, report))
            for step, in_flight in _in_flight(report):
                numbers["turnstile_step_items_in_flight", name, step] += in_flight
            if run.total is not None:
                numbers["turnstile_run_items_expected", name] += run.total


def _add_totals(numbers: Numbers, shown: str, totals: Totals) -> None:
    numbers["turnstile_limiter_admitted_total", shown] += totals.admitted
    if totals.turned_away:
        numbers["turnstile_limiter_turned_away_total", shown] += totals.turned_away
    for reason, number in totals.decisions.items():
        numbers["turnstile_limiter_decisions_total", shown, reason.value] += number


def _add_details(numbers: Numbers, shown: str, limiter: Limiter) -> None:
    state = limiter.statistics()
    numbers["turnstile_limiter_cap", shown] += state.cap
    numbers["turnstile_limiter_ceiling", shown] += state.ceiling
    numbers["turnstile_limiter_floor", shown] += state.minimum
    numbers["turnstile_limiter_paused", shown] += state.paused


_OUTCOMES = ("completed", "discarded", "failed", "diverted", "cancelled", "skipped")


def _steps(report: RunReport) -> Iterator[tuple[str, Report | StepReport]]:
    if isinstance(report, Report):
        yield "operations", report
        return
    assert isinstance(report, PipelineReport)
    yield from ((step.name, step) for step in report.steps)


def counts_of(run: str, report: RunReport) -> dict[Key, float]:
    """Return the counts of a run so far."""
    counts: dict[Key, float] = {}
    for name, step in _steps(report):
        counts["turnstile_step_items_received_total", run, name] = step.received
        counts["turnstile_step_retries_total", run, name] = step.retried
        for outcome in _OUTCOMES:
            number = getattr(step, outcome, 0)
            counts["turnstile_step_items_total", run, name, outcome] = number
    return counts


def _in_flight(report: RunReport) -> Iterator[tuple[str, int]]:
    for name, step in _steps(report):
        yield name, step.working if isinstance(step, Report) else step.in_flight
