"""How far a probe goes, how long it takes, and how long to rest before the next.

A reading of n calls with scatter s is good to about s / sqrt(n). A step of c * sqrt(L) calls is
c / sqrt(L) in logarithms, so k rounds of L calls give a gain good to about s / (c * sqrt(k)), the
same for every L: square-root steps make a probe cost a fixed number of round trips, whether the
limit is 4 or 400. The less the calls scatter, the shorter the step, `BRIEF` rounds long; where
they scatter much it is sqrt(L) calls, and where even `ROUNDS` would not do it is made longer.

A probe that succeeds doubles the stride of the next, up to a doubling of the limit; one that
fails halves it. The first stride is a doubling, and down it is twice as long: that is the fast
start, and it lasts until the knee has been seen.
"""

from __future__ import annotations

import math
from typing import final

from ._finding import LIKELY, OPEN

LONGEST = math.log(2)
"""The longest stride, in logarithms: a doubling or a halving."""
CERTAINTY = 4.0
"""How many standard errors of the calls' scatter the step is long: the gain is then good to
0.3."""
BRIEF, ROUNDS = 4, 9
"""Round trips of a reading, if the calls scatter little; and the most if they scatter much, as a
service that doubles must not be missed for long."""
FEWEST, MANY = 10, 40
"""At least so many calls, so that chance does not rule at small limits; and so many at most there,
whatever `ROUNDS` says."""
TRUSTED = 8
"""So many calm probes up before one goes down again, where every call was seen to count."""
COST, RAREST = 0.03, 3
"""Share of the throughput that down-probes may cost when all is calm, and the longest rest
in units of a probe."""


def shortest(limit: int, scatter: float) -> float:
    """Return the shortest step that can be read at a limit, in logarithms."""
    brief, full = (CERTAINTY * scatter / math.sqrt(rounds) for rounds in (BRIEF, ROUNDS))
    return min(LONGEST, max(min(1.0, brief), full) / math.sqrt(limit))


def calls_needed(step: float, limit: int, scatter: float) -> float:
    """Return how many calls a reading takes, to tell limits apart that lie a step away."""
    wanted = (CERTAINTY * scatter / max(step, 1 / (1 + limit))) ** 2
    return max(FEWEST, limit, min(wanted, max(ROUNDS * limit, MANY)))


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
        self.searching: bool = True
        """Whether the knee has never been seen yet."""
        self.proven: int = 0
        """The limit at which a probe down has shown that every call counts; 0 for none."""
        self.began: float = 0.0
        """When the last probe began, in seconds."""
        self.seconds: float = 0.0
        """How long the last probe took."""

    def disturb(self, *, up: bool) -> None:
        """Probe soon: something has changed."""
        self.calm, self.up, self.proven = 0, up, 0

    def lean(self, gain: float) -> None:
        """Choose the way after a probe down, by its gain; wait less if up is likely to pay.

        When all is calm it looks both ways in turn, as only upwards is a larger capacity seen.
        """
        if gain >= LIKELY:
            self.up, self.calm = True, min(1, self.calm)
        else:
            self.up = gain >= OPEN and self.calm > 0

    def turn(self, home: int) -> None:
        """Choose the way after a step up was not worth it.

        Where every call counts a probe down only costs, and says nothing new while the pace
        at home stays the same.
        """
        self.up = home == self.proven and self.calm % TRUSTED != 0
        if not self.up:
            self.proven = 0

    def stay(self, home: int) -> None:
        """Take note that there is no way up."""
        self.calm += 1
        self.turn(home)

    def down(self) -> float:
        """Return how far down to probe, in logarithms."""
        return 2 * self.stride if self.searching else self.stride

    def arrive(self, least: float, step: float, move: float) -> bool:
        """Take note that the knee was seen, between the two limits of a probe.

        Half of how far it has moved may be wrong; if the probe went much farther than the stride,
        as it does after a change of the service, half of that.

        Args:
          least: the shortest step, in logarithms.
          step: how far the probe went.
          move: how far the knee is from where it was thought to be.

        Returns:
          Whether it is near there: that is calm.
        """
        self.searching = False
        doubt = step if step > 2 * self.stride else move
        self.shorten(least)
        self.stride = max(self.stride, min(LONGEST, doubt / 2))
        near = move <= least
        self.calm = self.calm + 1 if near else 0
        return near

    def lengthen(self, step: float, *, up: bool) -> None:
        """Go on, twice as far: a probe of that step has succeeded."""
        self.disturb(up=up)
        self.stride = min(LONGEST, 2 * step)

    def shorten(self, least: float) -> None:
        """Go half as far the next time, but not less than the shortest step: a probe has failed."""
        if not self.searching:
            self.stride = max(least, self.stride / 2)

    def rest(self, least: float) -> float:
        """Return how long to rest before the next probe, in seconds; the calmer, the longer."""
        step = 1 - math.exp(-least)
        return self.seconds * min(2.0**self.calm - 1, step / COST, RAREST)
