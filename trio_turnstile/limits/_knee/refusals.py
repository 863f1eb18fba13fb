"""Brackets the limit by overload answers: fall back at once, return by halves, test again later.

A refusal needs no statistics: the service has said that so many calls are too many. The difficulty
is to count it once. Calls admitted at the same limit are a *cohort*. When a service is full, it may
refuse the whole cohort, and one cut per refusal would take the limit to the minimum. So a cut opens
a new cohort, and only calls of the new cohort can cause another cut. Nor is every refusal about
load: if a steady share of calls fails at any load, a limit that heeds each failure goes to 1.

The way back is a search between a limit that was accepted and one that was refused, hence by
halves. A single call more tests the refused limit again now and then, because quotas change.
"""

from __future__ import annotations

import math
from typing import final

CUT_BLAME = 2.5
"""The blame that causes a cut; each refusal adds 1. So three refusals close together cut, and one
or two do not (taste)."""
SUCCESS_CREDIT = 0.06
"""The blame that a success takes away (tuned). A steady share of a few per cent of failures rarely
cuts. One call above a large quota must cut: if the service refuses it every 5 ms, beside 2,000
successes per second, refusals are 9 % of the answers."""
CUT_FACTOR = 0.9
"""Factor of a cut if the service refuses the accepted limit itself (taste). Each further cohort
may cut again, so the limit follows a collapse of the quota within a few answers."""
SLOW_CUT_FACTOR = 0.25
"""Factor of a cut if refusals are slow, as time-outs are (tuned). The service worked in vain, and
the next answer will take as long. So the cut is deep: a few calls that are answered show at once
where the knee is. It pays only for small services."""
RETEST_SECONDS = 2.0
"""Seconds from a cut to the next test of the refused limit (taste)."""
RETEST_CALLS = 100
"""Successes from a cut to the next test of the refused limit, so that the tests cost at most two or
three per cent of the calls (theory: three refusals a test)."""


@final
class RefusalBracket:
    """The lowest limit known to be refused, and the highest limit known to be accepted."""

    def __init__(self) -> None:
        self.refused: float = math.inf
        """The lowest limit known to be refused."""
        self.step: int = 1
        """The last step up, in calls."""
        self._accepted = 0
        self._blame = 0.0
        self._retest_at = 0.0
        self._successes = 0

    def on_move(self) -> None:
        """Open a new cohort, because the limit has changed."""
        self._blame = 0.0

    def on_success(self) -> None:
        """Count a success."""
        self._successes += 1
        self._blame = max(0.0, self._blame - SUCCESS_CREDIT)

    def on_refusal(self) -> bool:
        """Count a refusal of the present cohort; return whether the limit must be cut."""
        self._blame += 1
        return self._blame >= CUT_BLAME

    def cut(self, limit: int, now: float, factor: float = CUT_FACTOR) -> int:
        """Return the limit to fall back to: the accepted one, or less if that one was refused."""
        self._retest_at, self._successes = now + RETEST_SECONDS, 0
        if limit > self._accepted > 0:
            self.refused = limit
            return self._accepted
        if self.refused == math.inf:
            self.refused = limit
        self._accepted = max(1, min(int(limit * factor), limit - 1))
        return self._accepted

    def accept(self, limit: int) -> None:
        """Record that the service accepted a whole cohort at this limit."""
        self._accepted = max(self._accepted, limit)
        if limit >= self.refused:
            self.refused = math.inf

    def halfway(self, limit: int) -> int | None:
        """Return the limit halfway to the refused one; None if there is none between."""
        if self.refused == math.inf or self.refused - limit <= 1:
            return None
        return int(limit + self.refused) // 2

    def next_step(self, limit: int) -> int | None:
        """Return the next step up from a limit just accepted; None to stop here."""
        halfway = self.halfway(limit)
        if halfway is not None:
            return halfway - limit
        double = 2 * self.step
        return double if self.refused == math.inf and double < math.sqrt(limit) else None

    def is_next(self, limit: int) -> bool:
        """Tell whether one call more would reach the refused limit."""
        return limit + 1 >= self.refused

    def is_due(self, now: float) -> bool:
        """Tell whether the refused limit may be tested again."""
        return now >= self._retest_at and self._successes >= RETEST_CALLS
