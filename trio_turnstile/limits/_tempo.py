"""How far a probe goes, how long it takes, and how long to rest before the next.

A reading of n calls with scatter s is good to about s / sqrt(n). A step of sqrt(L) calls is
1 / sqrt(L) in logarithms, so k rounds of L calls give a gain good to about s / sqrt(k), the
same for every L: square-root steps make a probe cost a fixed number of round trips, whether
the limit is 4 or 400. Where scatter is so large that `ROUNDS` would not do, the step is made
longer instead of the reading.

A probe that succeeds doubles the stride of the next, up to a doubling of the limit; one that
fails halves it. The first stride is a doubling: that is the fast start, in both directions.
"""

from __future__ import annotations

import math
from typing import final

LONGEST = math.log(2)
"""The longest stride, in logarithms: a doubling or a halving."""
CERTAINTY = 4.0
"""How many standard errors of the calls' scatter the step is long: the gain is then good to
0.3."""
ROUNDS = 9
"""At most so many round trips: a service that doubles must not be missed for long."""
FEWEST = 10
"""At least so many calls, so that chance does not rule at small limits."""
COST, RAREST = 0.03, 4
"""Share of the throughput that down-probes may cost when all is calm, and the longest rest
in units of a probe."""


def shortest(limit: int, scatter: float) -> float:
    """Return the shortest step that can be read at a limit, in logarithms."""
    noise = CERTAINTY * scatter / math.sqrt(ROUNDS)
    return min(LONGEST, max(1.0, noise) / math.sqrt(limit))


def calls_needed(step: float, limit: int, scatter: float) -> float:
    """Return how many calls a reading takes, to tell limits apart that lie a step away."""
    wanted = (CERTAINTY * scatter / max(step, 1 / (1 + limit))) ** 2
    return max(FEWEST, limit, min(wanted, ROUNDS * limit))


@final
class Tempo:
    """Which way the next probe goes, how far, and how soon."""

    def __init__(self) -> None:
        self.up: bool = False
        """Whether the next probe is to go up."""
        self.stride: float = LONGEST
        """How far it is to go, in logarithms."""
        self.calm: int = 0
        """How many probes in a row have found nothing new."""
        self.began: float = 0.0
        """When the last probe began, in seconds."""
        self.seconds: float = 0.0
        """How long the last probe took."""

    def disturb(self, *, up: bool) -> None:
        """Probe soon: something has changed."""
        self.calm, self.up = 0, up

    def stay(self) -> None:
        """Go down the next time: there is no way up."""
        self.up = False
        self.calm += 1

    def lengthen(self, step: float, *, up: bool) -> None:
        """Go on, twice as far: a probe of that step has succeeded."""
        self.disturb(up=up)
        self.stride = min(LONGEST, 2 * step)

    def shorten(self, least: float) -> None:
        """Go half as far the next time, but not less than the shortest step: a probe has failed."""
        self.stride = max(least, self.stride / 2)

    def rest(self, least: float) -> float:
        """Return how long to rest before the next probe, in seconds; the calmer, the longer."""
        step = 1 - math.exp(-least)
        return self.seconds * min(2.0**self.calm - 1, step / COST, RAREST)
