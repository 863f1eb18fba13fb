"""`Board`: shows a turnstile as documents. It only reads, and changes nothing.

It is used only in the trio run.
"""

from __future__ import annotations

import math
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import final

import attrs
import trio

import trio_turnstile
from trio_turnstile import (
    ConcurrentError,
    Decision,
    Limiter,
    LiveRun,
    Turnstile,
)

from ._documents import (
    DecisionDoc,
    LimiterDoc,
    OverrideDoc,
    ProcessDoc,
    RunDoc,
    RunErrorDoc,
    RunStateDoc,
    ServiceDoc,
    finite,
)
from ._steps import steps_of
from ._wording import sentence

ERRORS_SHOWN = 20
RUNS_REMEMBERED = 20
"""How many ended runs are still shown."""


WATCHED = 200
"""How many limiters a state has if a client names none."""


@final
@attrs.frozen
class StateOfAll:
    """The limiters that a client wants, and the runs, at one moment."""

    time: float
    limiters: list[LimiterDoc]
    runs: list[RunStateDoc]


def _as_it_is(run: LiveRun) -> LiveRun:
    return run


@final
@attrs.define(eq=False)
class Board:
    """The limiters and the runs of a turnstile, as seen from outside."""

    turnstile: Turnstile
    as_seen: Callable[[LiveRun], LiveRun] = _as_it_is
    """Returns the object to show, and to end, instead of a run of the turnstile."""
    _latest: dict[LiveRun, deque[RunErrorDoc]] = attrs.field(factory=dict, init=False)
    """The newest errors of each live run."""
    _ended: deque[RunDoc] = attrs.field(factory=lambda: deque(maxlen=RUNS_REMEMBERED), init=False)

    @property
    def now(self) -> float:
        """The Unix time."""
        return self.wall_time(trio.current_time())

    def wall_time(self, time: float) -> float:
        """Return a time on trio's clock as a Unix time."""
        return self.turnstile.opened.wall_time_of(time)

    def service(self, *, read_only: bool, recorded: bool) -> ServiceDoc:
        """Return a description of the program."""
        turnstile = self.turnstile
        process = ProcessDoc(
            id=turnstile.id,
            name=turnstile.name,
            pid=os.getpid(),
            host=socket.gethostname(),
            started=turnstile.opened.wall_time,
        )
        return ServiceDoc(trio_turnstile.__version__, process, self.now, read_only, recorded)

    # ---- limiters ----

    def limiter(self, limiter: Limiter) -> LimiterDoc:
        """Return the state of a limiter."""
        state = limiter.statistics()
        pause = state.bounds.get("pause")
        return LimiterDoc(
            name=state.name,
            limit=finite(state.total_tokens),
            running=state.borrowed_tokens,
            waiting=state.tasks_waiting,
            cap=finite(state.cap),
            ceiling=finite(state.ceiling),
            minimum=state.minimum,
            paused=state.paused,
            paused_for=None if pause is None else self._left(pause.why),
            limited_by=min(state.bounds, key=lambda name: state.bounds[name].tokens),
            bounds={name: finite(bound.tokens) for name, bound in state.bounds.items()},
            override=self._override(limiter),
        )

    def decision(self, decision: Decision) -> DecisionDoc:
        """Return a decision, with a sentence for people."""
        return DecisionDoc(
            limiter=decision.limiter,
            time=decision.wall_time,
            signal=None if decision.signal is None else decision.signal.value,
            before=finite(decision.before),
            after=finite(decision.after),
            reason=decision.reason.value,
            by=decision.by,
            note=decision.note,
            applied=decision.applied,
            repeated=decision.repeated,
            text=sentence(decision),
            evidence={
                name: self._figure(name, figure) for name, figure in decision.evidence.items()
            },
        )

    # ---- runs ----

    def run(self, run: LiveRun) -> RunDoc:
        """Return the document of a live run."""
        report, seen = run.report(), self.as_seen(run)
        latest = self._latest.get(run, ())
        errors = list(latest) or [
            self.error(run, error, None) for error in report.errors[-ERRORS_SHOWN:]
        ]
        return RunDoc(
            id=run.name,
            kind=run.kind,
            state=seen.state,
            started=self.wall_time(run.started),
            total=seen.total,
            steps=steps_of(run, report),
            errors=errors,
            errors_omitted=len(report.errors) + report.errors_omitted - len(errors),
        )

    def run_state(self, run: LiveRun) -> RunStateDoc:
        """Return how far a run has come."""
        report, seen = run.report(), self.as_seen(run)
        return RunStateDoc(
            id=run.name,
            state=seen.state,
            total=seen.total,
            steps=steps_of(run, report),
            errors=len(report.errors) + report.errors_omitted,
        )

    def runs(self) -> list[RunDoc]:
        """Return the documents of all runs, oldest first, including some that have ended."""
        return [*self._ended, *(self.run(run) for run in self.turnstile.runs.values())]

    def error(self, run: LiveRun, error: ConcurrentError, time: float | None) -> RunErrorDoc:
        """Return the document of an error of a run."""
        return RunErrorDoc(
            run=run.name,
            time=None if time is None else self.wall_time(time),
            step=error.phase or None,
            identifiers=[identifier[:200] for identifier in islice(error.identifiers, 10)],
            text=str(error)[:1000],
        )

    def noted(self, run: LiveRun, error: RunErrorDoc) -> None:
        """Remember an error of a live run."""
        self._latest.setdefault(run, deque(maxlen=ERRORS_SHOWN)).append(error)

    def ended(self, run: LiveRun) -> RunDoc:
        """Remember a run that has ended, and return its document."""
        account = self.run(run)
        self._latest.pop(run, None)
        self._ended.append(account)
        return account

    def state(self, names: frozenset[str] | None) -> StateOfAll:
        """Return the state of some limiters, and of the runs; ``None`` for the first limiters."""
        limiters = self.turnstile.limiters
        wanted = islice(limiters, WATCHED) if names is None else names & limiters.keys()
        return StateOfAll(
            time=self.now,
            limiters=[self.limiter(limiters[name]) for name in wanted],
            runs=[self.run_state(run) for run in self.turnstile.runs.values()],
        )

    # ---- inside ----

    def _override(self, limiter: Limiter) -> OverrideDoc | None:
        override = limiter.override
        if override is None:
            return None
        return OverrideDoc(
            limit=finite(override.tokens),
            by=override.by,
            note=override.note,
            until=finite(override.wall_until),
        )

    def _left(self, why: Mapping[str, object]) -> float | None:
        until = why.get("until")
        if not isinstance(until, float) or until == math.inf:
            return None
        return max(0.0, until - trio.current_time())

    def _figure(self, name: str, figure: object) -> str | float | bool | None:
        """Return a value from the evidence of a decision, as JSON can represent it."""
        if isinstance(figure, int | float) and not isinstance(figure, bool):
            if not math.isfinite(figure):
                return None
            return self.wall_time(figure) if name in ("time", "until") else figure
        return figure if isinstance(figure, str | bool | None) else str(figure)
