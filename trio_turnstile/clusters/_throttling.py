"""`Throttler`: makes the number of array tasks that run at a time follow a limiter."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final, final

import attrs
import trio

from trio_turnstile import Limiter

from ._calls import Calls
from ._engine import ArrayEngine, Unreadable
from ._jobs import JobState
from ._tracking import Tracker

_LOG: Final = logging.getLogger("trio_turnstile.clusters")

_LOOK: Final = 0.5
"""Seconds between two checks of the limiter, while there are jobs."""

_PAUSE: Final = 5.0
"""Seconds to wait after a call that failed."""


@final
@attrs.define(eq=False)
class Load:
    """How many tasks of one array run, and how many may begin."""

    running: int = 0
    pending: int = 0


def shared_out(loads: Mapping[str, Load], limit: float) -> dict[str, float]:
    """Return how many tasks may run at a time, for each array with tasks that have not begun.

    The first array goes first. Running tasks are not ended, so more may run than the limit says;
    then no task begins.
    """
    free = max(limit - sum(load.running for load in loads.values()), 0)
    shares: dict[str, float] = {}
    for array, load in loads.items():
        beginning = min(load.pending, free)
        free -= beginning
        if load.pending:
            most = min(load.running + beginning, limit)
            shares[array] = math.inf if beginning == load.pending else most
    return shares


@final
@attrs.define(eq=False)
class Throttler:
    """Makes a cluster run no more array tasks at a time than the limit of a limiter."""

    _engine: ArrayEngine
    _calls: Calls
    _tracker: Tracker
    _limiter: Limiter | None
    _known: dict[str, float] = attrs.field(init=False, factory=dict)
    """The number that the controller was told for each array, in the order of submission."""
    _lowered: float = attrs.field(init=False, default=-math.inf)
    """When the controller was last told a lower number."""

    def allotment(self, tasks: int) -> float:
        """Return how many tasks of a new array may run at a time, for now."""
        if self._limiter is None:
            return math.inf
        loads = {**self._loads(), "": Load(pending=tasks)}
        return shared_out(loads, self._limiter.total_tokens)[""]

    def know(self, array: str, at_once: float) -> None:
        """Note the number that the controller was told for a new array."""
        self._known[array] = at_once

    async def run(self) -> None:
        """Follow the limiter, for ever."""
        while self._limiter is not None:
            added, loads = self._tracker.added, self._loads()
            self._known = {array: n for array, n in self._known.items() if array in loads}
            await self._follow(shared_out(loads, self._limiter.total_tokens))
            if not self._tracker.jobs:
                await added.wait()
            await trio.sleep(_LOOK)

    async def _follow(self, shares: Mapping[str, float]) -> None:
        """Lower the throttles that are too high, and raise others only after the next poll.

        Tasks of a lowered array may have begun since the last poll, and the next one shows them.
        """
        lower = {n: most for n, most in shares.items() if most < self._known.get(n, math.inf)}
        if lower:
            await self._tell(lower)
            self._lowered = trio.current_time()
        elif self._tracker.polled > self._lowered:
            await self._tell(shares)

    def _loads(self) -> dict[str, Load]:
        loads = {array: Load() for array in self._known}
        for job in self._tracker.jobs.values():
            array = self._engine.array_of(job.id)
            if array:
                load = loads.setdefault(array, Load())
                load.running += job.state is JobState.RUNNING
                load.pending += job.state is JobState.PENDING
        return {array: load for array, load in loads.items() if load.running or load.pending}

    async def _tell(self, shares: Mapping[str, float]) -> None:
        changes: dict[float, list[str]] = {}
        for array, at_once in shares.items():
            if self._known.get(array) != at_once:
                changes.setdefault(at_once, []).append(array)
        for at_once, arrays in sorted(changes.items()):
            await self._tell_of(arrays, at_once)

    async def _tell_of(self, arrays: Sequence[str], at_once: float) -> None:
        try:
            reply = await self._calls.ask(self._engine.throttle(arrays, at_once))
            if reply is None:
                raise Unreadable("it does not answer")
            self._engine.read_throttled(reply)
        except Unreadable as error:
            _LOG.warning("the throttle of arrays %s is not set: %s", ", ".join(arrays), error)
            await trio.sleep(_PAUSE)
        else:
            self._known.update(dict.fromkeys(arrays, at_once))
