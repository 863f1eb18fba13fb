"""What is believed of a service: where its knee is, and how fast it is.

A service that works on ``knee`` calls at once, typically for ``time`` seconds, answers n calls in
flight after

    latency = time * (1 + skew * max(0, n / knee - 1)) ** slope

so that below the knee its latency tells the time alone, and only readings on both sides tell the
knee. What a call waits for is the mean of others, which is ``skew`` typical ones. The slope is 1 if
calls do no more than queue, more if crowding also slows the service down, less if others are in the
queue too. If every latency doubles, the service may be slower or smaller: both are believed, as far
as each is likely, until a reading at another limit tells.

The order in which calls end tells of the knee too, without any look at another limit: calls that
are worked on at once overtake each other, and those that wait in line do not. That is so unless the
service has no line, and works on all that is there at once, each the slower; so whether there is a
line is believed as well.

The belief is a probability for every knee on a grid, and to each of these knees a normal
distribution of two numbers: the logarithm of the time, and the slope. In logarithms the law is
linear in them, so a reading changes all by Bayes' rule. Between two readings the service may have
changed, so what is believed widens as time goes by: doubt is what makes it worth while to look
again, and the older the news the wider.

(A bank of Kalman filters weighted by how well each predicts, with jumps as a second hypothesis
whose outcome is merged by its moments; Bar-Shalom, Li, Kirubarajan, "Estimation with Applications
to Tracking and Navigation", 2001, chapter 11.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import erf, exp, log, sqrt
from operator import add, mul
from typing import TypeAlias, final

GRAIN = 0.1
"""The grid's knees lie at least 1 apart, and at least this share of themselves."""
CAPACITY_JUMPS, SPEED_JUMPS = 0.006, 0.006
"""How likely it is, per round trip, that the knee jumps, and that the time does."""
FAR = 0.7
"""How far each jumps, in logarithms: about a doubling or a halving."""
JUMP = FAR * FAR
"""The variance that a jump adds."""
SLOPE, SLOPES = 1.3, 0.2
"""The slope of a service that nothing is known of, and its standard deviation."""
MISFIT, OTHERS = 0.2, 0.4
"""Doubt in any one reading of a queue, as a share of its logarithm: it may still be growing; and
others, who come and go, may be in it. Of those there is the less doubt the fewer calls fill the
service, and the more often all calls in flight have made room for others in one reading."""
FILLS = 6
"""How slowly the doubt in others grows with the knee: it is half at 9 calls."""
LINE, SURE = 0.5, 0.99
"""How likely it is that a service has a line, when nothing is known of it and at the most."""
ALIKE = 3.0
"""The calls of one reading overtake the same others: so many times the variance of strangers."""
UNUSUAL, SLIPS = 0.3, 0.03
"""Doubt in how often calls overtake others: as a share of that, and as a share of the others."""
LEGIBLE = 12
"""The order of more calls in flight is not heeded: there latency tells enough, and two clients who
knew from it that they are in no line would look about less, and share less evenly."""
ALONE = 2.0
"""Too little overtaking may be others' doing, who wait in the line too: the more calls there are in
flight beyond this, the less it tells."""
IMPOSSIBLE = 1e-12
"""The least likelihood, so that nothing that was read can rule everything out."""
UNKNOWN = 100.0
"""Variance of the time before the first reading."""


_Normal: TypeAlias = tuple[float, float, float, float, float]
"""A normal distribution of the logarithm of the time and of the slope: both means, the variance of
the time, the covariance, the variance of the slope. A plain tuple, and long functions on it, as
this is done for each knee with each reading: small methods took 0.48 ms a reading, this 0.17."""


@final
class Belief:
    """A probability for each knee, and with each knee a distribution of the service's time.

    Args:
      most: the largest knee that is of interest, in calls.
    """

    def __init__(self, most: int) -> None:
        self._knees = _grid(most)
        logarithms = [log(knee) for knee in self._knees]
        middles = [(here + there) / 2 for here, there in pairwise(logarithms)]
        self._edges = [-0.35, *middles, logarithms[-1] + GRAIN / 2]
        widths = [there - here for here, there in pairwise(self._edges)]
        self._prior = [width / sum(widths) for width in widths]
        self._lines = [LINE] * len(widths)
        self._others = [OTHERS * OTHERS * (1 - 1 / knee) ** FILLS for knee in self._knees]
        self._near = [exp((here - there) / FAR) for here, there in pairwise(logarithms)]
        self._weights = list(self._prior)
        self._normals: list[_Normal] = [(0.0, SLOPE, UNKNOWN, 0.0, SLOPES * SLOPES)] * len(widths)

    def knee(self, share: float) -> float:
        """Return the number of calls that the knee is below with a probability of ``share``."""
        below = 0.0
        for i, weight in enumerate(self._weights):
            if below + weight >= share:
                low, high = self._edges[i : i + 2]
                # At most the whole of it: beside a weight of almost nothing, what rounding
                # has left of the share is large.
                return exp(low + (high - low) * min(1.0, (share - below) / weight))
            below += weight
        return exp(self._edges[-1])

    def learn(
        self,
        in_flight: float,
        latency: float,
        *,
        error: float,
        rounds: float,
        trips: float,
        skew: float,
    ) -> None:
        """Take a reading into account.

        Args:
          in_flight: mean number of calls in flight.
          latency: typical latency, in seconds.
          error: standard error of the latency's logarithm.
          rounds: how many calls have ended for each that is in flight, at least 1.
          trips: how many times its latency the last reading is past.
          skew: the mean service time, in typical ones.
        """
        self._doubt(trips)
        jump = 1 - exp(-SPEED_JUMPS * trips)
        seen, weights, normals = log(latency), self._weights, self._normals
        for i, knee in enumerate(self._knees):
            fills = max(1.0, in_flight / knee)
            queue = log(1 + skew * (fills - 1))
            # What waits is answered in turn, and delayed alike: n / knee calls tell as much as one.
            misfit = MISFIT * MISFIT + self._others[i] / rounds
            noise = error * error * fills + misfit * queue * queue
            normals[i], likelihood = _told(normals[i], queue, seen, noise, jump)
            weights[i] *= likelihood
        self._weights = _normed(weights)

    def learn_order(self, in_flight: float, overtaken: float, scatter: float, calls: int) -> None:
        """Take into account in what order calls have ended.

        Of the others that are worked on, a call that ends has overtaken as large a share as the
        Gini index of service times is, in the mean; of those in a line, none. (It overtakes what
        has been worked on for longer than it took itself, and the mean of that over all calls is
        half their mean difference over their mean.)

        Args:
          in_flight: mean number of calls in flight.
          overtaken: the share of the others that a call had overtaken when it ended.
          scatter: relative standard deviation of the latency.
          calls: of how many calls that is the mean.
        """
        others = in_flight - 1
        if not calls or not 1 < in_flight <= LEGIBLE:
            return
        usual = erf(sqrt(log(1 + scatter * scatter)) / 2)  # the Gini index if log-normal
        told = ALONE / max(ALONE, in_flight)

        def likelihood(worked_on: float) -> float:
            expected = usual * worked_on
            # How long calls take makes the share differ as much as if it was drawn evenly in the
            # case of exponential times; and then there is chance.
            differs = worked_on * worked_on * usual * (1 - usual) / 3
            chance = expected * (1 - usual) / others
            doubt = (UNUSUAL * expected) ** 2 + SLIPS * SLIPS
            variance = ALIKE * (differs + chance) / calls + doubt
            off = overtaken - expected
            weight = told if off < 0 else 1.0
            return exp(-weight * off * off / (2 * variance)) / sqrt(variance) + IMPOSSIBLE

        all_at_once = likelihood(1.0)
        weights, lines = self._weights, self._lines
        # With knees beyond there would be no line, and nothing to tell it from shared workers.
        for i in range(bisect_left(self._knees, in_flight)):
            in_line = likelihood((self._knees[i] - 1) / others) / all_at_once
            either = lines[i] * in_line + 1 - lines[i]
            weights[i] *= either
            lines[i] = min(SURE, max(1 - SURE, lines[i] * in_line / either))
        self._weights = _normed(weights)

    def _doubt(self, trips: float) -> None:
        """Let time pass: the knee may have jumped, with the service's time what it was."""
        jump = 1 - exp(-CAPACITY_JUMPS * trips)
        before, normals = self._weights, self._normals
        time = sum(weight * normal[0] for weight, normal in zip(before, normals, strict=True))
        variance = sum(
            weight * (normal[2] + (normal[0] - time) ** 2)
            for weight, normal in zip(before, normals, strict=True)
        )
        anyones = (time, SLOPE, variance, 0.0, SLOPES * SLOPES)
        line = sum(map(mul, before, self._lines))
        weights = self._weights = list[float]()
        for i, arrival in enumerate(self._arrivals(before)):
            weight = (1 - jump) * before[i] + jump * arrival
            share = jump * arrival / weight
            normals[i] = _merged(normals[i], anyones, share)
            self._lines[i] += share * (line - self._lines[i])
            weights.append(weight)

    def _arrivals(self, weights: list[float]) -> list[float]:
        """Return where the knee would be after a jump: the nearer to where it was the likelier."""
        rising = _swept(weights, self._near)
        falling = _swept(weights[::-1], self._near[::-1])[::-1]
        return _normed(list(map(mul, map(add, rising, falling), self._prior)))


def _told(
    normal: _Normal, queue: float, latency: float, noise: float, jump: float
) -> tuple[_Normal, float]:
    """Return what a reading makes of a distribution, and how likely that reading was.

    Args:
      normal: the distribution.
      queue: how much longer it takes for the queue, in logarithms at a slope of 1.
      latency: the logarithm of the latency.
      noise: the variance of that.
      jump: how likely it is that the time has jumped.
    """
    time, slope, times, both, slopes = normal
    to_time, to_slope = times + queue * both, both + queue * slopes
    off = latency - time - queue * slope
    # Two hypotheses: the time is what it was, or it has jumped.
    usual = to_time + queue * to_slope + noise
    wide = usual + JUMP
    stayed = (1 - jump) * exp(-off * off / (2 * usual)) / sqrt(usual)
    jumped = jump * exp(-off * off / (2 * wide)) / sqrt(wide) + IMPOSSIBLE
    share = jumped / (stayed + jumped)
    time_gain, slope_gain = to_time / usual, to_slope / usual
    farther, other = (to_time + JUMP) / wide - time_gain, to_slope / wide - slope_gain
    apart = share * (1 - share) * off * off
    return (
        time + (time_gain + share * farther) * off,
        slope + (slope_gain + share * other) * off,
        times
        - time_gain * to_time
        + share * (JUMP * (1 - time_gain - farther) - farther * to_time)
        + apart * farther * farther,
        both - (time_gain + share * farther) * to_slope + apart * farther * other,
        slopes - (slope_gain + share * other) * to_slope + apart * other * other,
    ), stayed + jumped


def _merged(normal: _Normal, other: _Normal, share: float) -> _Normal:
    """Return the normal distribution with the moments of a mixture, the other's share given."""
    time, slope, times, both, slopes = normal
    later, steeper = other[0] - time, other[1] - slope
    apart = share * (1 - share)
    return (
        time + share * later,
        slope + share * steeper,
        times + share * (other[2] - times) + apart * later * later,
        both + share * (other[3] - both) + apart * later * steeper,
        slopes + share * (other[4] - slopes) + apart * steeper * steeper,
    )


def _normed(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _grid(most: int) -> list[float]:
    knees = [1.0]
    while knees[-1] < most:
        knees.append(knees[-1] + max(1.0, GRAIN * knees[-1]))
    return knees


def _swept(weights: Sequence[float], near: Sequence[float]) -> list[float]:
    """Return for each place the weights before it, each fading with the distance."""
    swept, carried = [0.0], 0.0
    for weight, fading in zip(weights, near, strict=False):
        carried = (carried + weight) * fading
        swept.append(carried)
    return swept
