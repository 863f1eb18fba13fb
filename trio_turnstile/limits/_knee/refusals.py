"""Overload answers as a ceiling: fall back at once, return by halves, test it again later.

A refusal needs no statistics: the service has said that this many calls are too many. What
needs care is to hear it once. Calls admitted at the same limit are a *cohort*; when a
service is full all of them may be refused together, and a cut for each would throw the
limit to the floor. So a cut opens a new cohort, and only its calls can cause another. Nor
is every refusal a verdict: with a steady share of failures at any load a limit that heeds
each one goes to 1.

Coming back is a search between a limit that was accepted and one that was refused, hence by
halves; a ceiling reached is tested now and then by a single call more, because quotas
change.
"""

from __future__ import annotations

import math
from typing import final

ENOUGH = 2.5
"""Blame that makes a cut: a refusal adds 1, ..."""
FORGIVEN = 0.06
"""... a success takes this away. Three refusals close together cut; a steady share of a few
per cent rarely does. One call over a large quota must: refused and begun again every 5 ms,
beside 2,000 that succeed in a second, it is 9 % of them."""
CUT = 0.9
"""Factor of a cut if it is the proven limit itself that is refused. Each further cohort may
cut again, so a collapse of the quota is followed within a few answers."""
DROWNED = 0.25
"""The same if refusals are slow, as time-outs are: the service did their work for nothing, and
the next answer will be as long in coming. So fall far: a few calls that are answered tell at once
where the knee is."""
HOLD, CALLS = 2.0, 100
"""Seconds and successes from a cut to the next test of the ceiling: so tests cost at most
two or three per cent."""


@final
class Ceiling:
    """The lowest limit known to be refused, and the highest known to be accepted."""

    def __init__(self) -> None:
        self.value: float = math.inf
        """The lowest limit known to be refused."""
        self.step: int = 1
        """The last step up, in calls."""
        self._proven = 0
        self._blame = 0.0
        self._due = 0.0
        self._calls = 0

    def moved(self) -> None:
        """Open a new cohort: the limit has changed."""
        self._blame = 0.0

    def succeeded(self) -> None:
        """Take note of a success."""
        self._calls += 1
        self._blame = max(0.0, self._blame - FORGIVEN)

    def refused(self) -> bool:
        """Take note of an overload in the present cohort; return whether it is time to cut."""
        self._blame += 1
        return self._blame >= ENOUGH

    def cut(self, limit: int, now: float, factor: float = CUT) -> int:
        """Return the limit to fall back to: the one proven, or less if that is refused."""
        self._due, self._calls = now + HOLD, 0
        if limit > self._proven > 0:
            self.value = limit
            return self._proven
        if self.value == math.inf:
            self.value = limit
        self._proven = max(1, min(int(limit * factor), limit - 1))
        return self._proven

    def prove(self, limit: int) -> None:
        """Take note that a whole cohort was admitted at this limit, and no cut came of it."""
        self._proven = max(self._proven, limit)
        if limit >= self.value:
            self.value = math.inf

    def halfway(self, limit: int) -> int | None:
        """Return the limit halfway up to the ceiling; None if there is none between."""
        if self.value == math.inf or self.value - limit <= 1:
            return None
        return int(limit + self.value) // 2

    def next_step(self, limit: int) -> int | None:
        """Return by how much to climb on from a limit just proven; None if not at all."""
        halfway = self.halfway(limit)
        if halfway is not None:
            return halfway - limit
        double = 2 * self.step
        return double if self.value == math.inf and double < math.sqrt(limit) else None

    def near(self, limit: int) -> bool:
        """Tell whether one call more would reach the ceiling."""
        return limit + 1 >= self.value

    def due(self, now: float) -> bool:
        """Tell whether the ceiling may be tested again."""
        return now >= self._due and self._calls >= CALLS
