"""`Decisions`: the last decisions on one limiter. Refusals do not push out changes."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import final

import attrs

from .events import Decision, Reason

KEPT = 200
"""How many changes are kept, and how many refusals."""


@final
class Decisions:
    """The last changes, and the last refusals; refusals that repeat one another are kept as one."""

    __slots__ = ("_changes", "_refusals", "_serial", "totals")

    def __init__(self) -> None:
        self.totals: dict[Reason, int] = {}
        """How many there were so far for each reason, including those that are not kept."""
        self._changes: deque[tuple[int, Decision]] = deque(maxlen=KEPT)
        self._refusals: deque[tuple[int, Decision]] = deque(maxlen=KEPT)
        self._serial = count()

    def add(self, decision: Decision) -> None:
        """Keep a decision."""
        self.totals[decision.reason] = self.totals.get(decision.reason, 0) + 1
        if decision.applied:
            self._changes.append((next(self._serial), decision))
            return
        decision = self._with_those_before(decision)
        self._refusals.append((next(self._serial), decision))

    def _with_those_before(self, decision: Decision) -> Decision:
        """Remove the last refusal if this one repeats it; return this one with their number."""
        if not self._refusals:
            return decision
        serial, last = self._refusals[-1]
        changed_since = bool(self._changes) and self._changes[-1][0] > serial
        if changed_since or _kind(last) != _kind(decision):
            return decision
        self._refusals.pop()
        return attrs.evolve(decision, repeated=last.repeated + 1)

    def all(self) -> tuple[Decision, ...]:
        """Return them, oldest first."""
        return tuple(decision for _, decision in sorted(self._numbered(), key=_serial_of))

    def _numbered(self) -> list[tuple[int, Decision]]:
        return [*self._changes, *self._refusals]


def _kind(decision: Decision) -> tuple[object, ...]:
    asked = decision.reason, decision.signal, decision.by, decision.note
    return *asked, decision.before, decision.after


def _serial_of(numbered: tuple[int, Decision]) -> int:
    return numbered[0]
