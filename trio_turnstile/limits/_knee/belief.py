"""What is known about a service: a probability for each knee, and with it for the speed.

A service that works on ``knee`` calls at once, each with a location of ``time`` seconds, answers n
calls in flight after

    latency = time * (1 + skew * max(0, n / knee - 1)) ** slope

So below the knee the latency shows the time alone, and only readings on both sides show the knee. A
call in a queue waits for the mean of others, which is ``skew`` times the location. The slope is 1
if calls only queue, more if crowding also slows the service down, and less if other clients are in
the queue too. If every latency doubles, the service may be slower or smaller: both hypotheses keep
their probabilities until a reading at another limit decides.

The order in which calls end shows the knee too, without a reading at another limit: calls that are
worked on at once overtake each other, and calls that wait in line do not. This holds unless the
service has no line and works on all calls at once, each the slower. So the model also keeps the
probability that there is a line.

The state is a probability for each knee on a grid and, given the knee, a normal distribution of two
numbers: the logarithm of the time, and the slope. In logarithms the law is linear in both, so a
reading updates everything by Bayes' rule. Between two readings the service may have changed, so
the distributions widen with time. The older the last reading, the greater the doubt, and doubt is
what makes a probe worth its cost.

(A bank of Kalman filters weighted by how well each predicts, with jumps as a second hypothesis
whose outcome is merged by its moments; Bar-Shalom, Li, Kirubarajan, "Estimation with Applications
to Tracking and Navigation", 2001, chapter 11. ``tests/limits/test_kalman.py`` compares the update
with the textbook's.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import erf, exp, log, sqrt
from operator import add, mul
from typing import TypeAlias, final

GRID_SPACING = 0.1
"""Distance of neighbouring knees on the grid, as a share of the knee, but at least 1 (taste)."""
LOWEST_EDGE_LOG = -0.35
"""The lower edge of the grid's first cell, in logarithms: a knee of 0.7. The edge above it is the
logarithm of 1.41, so the cell lies symmetrically about a knee of 1 (theory, rounded)."""
KNEE_JUMP_RATE = 0.006
"""Probability per round trip that the knee jumps (tuned). Essential: without it the worst scenario
of the gate scores 37 in place of 92."""
TIME_JUMP_RATE = 0.006
"""Probability per round trip that the time jumps (tuned). Essential: without it the worst scenario
of the gate scores 38 in place of 92."""
JUMP_SD = 0.7
"""Size of both jumps, in logarithms: about a doubling or a halving (log 2 is 0.69)."""
JUMP_VARIANCE = JUMP_SD * JUMP_SD
"""The variance that a jump adds to the logarithm of the time."""
SLOPE_MEAN = 1.3
"""Prior mean of the slope: between a plain queue, 1, and contention (tuned)."""
SLOPE_SD = 0.2
"""Prior standard deviation of the slope (tuned). With 0, shared workers lose up to 8 points."""
QUEUE_MISFIT_SD = 0.2
"""Doubt in one reading of a queue, as a share of its logarithm, because the queue may still be
growing (tuned)."""
OTHERS_SD = 0.4
"""Further doubt in one reading of a queue, as a share of its logarithm, because other clients come
and go (tuned). The doubt is smaller if few calls fill the service, and it shrinks as all calls in
flight are replaced several times within a reading."""
OTHERS_EXPONENT = 6
"""How slowly the doubt about other clients grows with the knee: it is half at 9 calls (tuned)."""
LINE_PRIOR = 0.5
"""Prior probability that a service has a line: no preference (taste)."""
MAX_LINE_PROBABILITY = 0.99
"""The greatest probability of a line, and of none, so that the model can still learn (taste)."""
ORDER_CLUSTER_VARIANCE = 3.0
"""Calls of one reading overtake the same others: the variance of their mean share is this many
times that of independent calls (tuned)."""
SHARE_VARIANCE_DIVISOR = 3
"""The variance of the share that a call overtakes is ``mean * (1 - mean)`` over this. For
exponential times the share is uniform on 0 to 1, with mean 1/2 and variance 1/12 (theory)."""
GINI_DOUBT = 0.3
"""Doubt in the share that calls overtake, as a part of that share (tuned)."""
ORDER_DOUBT = 0.03
"""Doubt in the share that calls overtake, as a part of the others in flight (tuned)."""
MAX_ORDER_CALLS = 12
"""Ignore the order above this many calls in flight (tuned). Latency is informative enough there,
and with the order two clients probed less and shared less evenly."""
ORDER_CALLS = 2.0
"""Too little overtaking may be due to other clients in the same line, so the evidence fades as
this number over the calls in flight (taste)."""
MIN_LIKELIHOOD = 1e-12
"""The least likelihood, so that no reading rules everything out."""
TIME_PRIOR_VARIANCE = 100.0
"""Variance of the logarithm of the time before the first reading: nothing is known."""


_Normal: TypeAlias = tuple[float, float, float, float, float]
"""A normal distribution of the logarithm of the time and of the slope: mean time, mean slope,
variance of the time, covariance, variance of the slope. A plain tuple, and long functions on it,
because every reading updates every knee: small methods took 0.48 ms per reading, this takes 0.17.
"""


@final
class Belief:
    """A probability for each knee, and for each knee a distribution of the service's time.

    Args:
      most: the largest knee of interest, in calls.
    """

    def __init__(self, most: int) -> None:
        self._knees = _grid(most)
        logarithms = [log(knee) for knee in self._knees]
        middles = [(here + there) / 2 for here, there in pairwise(logarithms)]
        self._edges = [LOWEST_EDGE_LOG, *middles, logarithms[-1] + GRID_SPACING / 2]
        widths = [there - here for here, there in pairwise(self._edges)]
        self._prior = [width / sum(widths) for width in widths]
        self._lines = [LINE_PRIOR] * len(widths)
        self._others_variances = [
            OTHERS_SD * OTHERS_SD * (1 - 1 / knee) ** OTHERS_EXPONENT for knee in self._knees
        ]
        self._fading = [exp((here - there) / JUMP_SD) for here, there in pairwise(logarithms)]
        self._weights = list(self._prior)
        unknown = (0.0, SLOPE_MEAN, TIME_PRIOR_VARIANCE, 0.0, SLOPE_SD * SLOPE_SD)
        self._normals: list[_Normal] = [unknown] * len(widths)

    def quantile(self, share: float) -> float:
        """Return the number of calls that the knee is below with a probability of ``share``."""
        below = 0.0
        for i, weight in enumerate(self._weights):
            if below + weight >= share:
                low, high = self._edges[i : i + 2]
                # At most the whole cell: if the weight is almost 0, rounding errors in the
                # rest of the share are large beside it.
                return exp(low + (high - low) * min(1.0, (share - below) / weight))
            below += weight
        return exp(self._edges[-1])

    def update(
        self,
        in_flight: float,
        latency: float,
        *,
        error: float,
        rounds: float,
        trips: float,
        skew: float,
    ) -> None:
        """Update all probabilities with the latency of a reading.

        Args:
          in_flight: mean number of calls in flight.
          latency: location of the latency, in seconds.
          error: standard error of the latency's logarithm.
          rounds: calls that have ended for each call in flight, at least 1.
          trips: round trips since the last reading.
          skew: the mean service time over its location.
        """
        self._predict(trips)
        jump = 1 - exp(-TIME_JUMP_RATE * trips)
        seen, weights, normals = log(latency), self._weights, self._normals
        for i, knee in enumerate(self._knees):
            fills = max(1.0, in_flight / knee)
            log_queue = log(1 + skew * (fills - 1))
            # Calls in a line are answered in turn and delayed alike, so n / knee calls carry as
            # much information as one.
            misfit = QUEUE_MISFIT_SD * QUEUE_MISFIT_SD + self._others_variances[i] / rounds
            noise = error * error * fills + misfit * log_queue * log_queue
            normals[i], likelihood = _kalman_update(normals[i], log_queue, seen, noise, jump)
            weights[i] *= likelihood
        self._weights = _normalized(weights)

    def update_order(self, in_flight: float, overtaken: float, cv: float, calls: int) -> None:
        """Update the probabilities with the order in which calls ended.

        On average, a call overtakes a share of the others that are worked on, and none of those in
        line. The share is the Gini index of the service times, half their mean difference over
        their mean: a call overtakes those worked on for longer than it took itself.

        Args:
          in_flight: mean number of calls in flight.
          overtaken: mean share of the others that a call had overtaken when it ended.
          cv: coefficient of variation of the latency.
          calls: the number of calls behind that mean.
        """
        others = in_flight - 1
        if not calls or not 1 < in_flight <= MAX_ORDER_CALLS:
            return
        gini = erf(sqrt(log(1 + cv * cv)) / 2)  # of a log-normal distribution
        shortfall_weight = ORDER_CALLS / max(ORDER_CALLS, in_flight)

        def likelihood(worked_on: float) -> float:
            return _order_likelihood(
                worked_on,
                overtaken,
                gini,
                others=others,
                calls=calls,
                shortfall_weight=shortfall_weight,
            )

        all_at_once = likelihood(1.0)
        weights, lines = self._weights, self._lines
        # If the knee is above the calls in flight there is no line, and nothing distinguishes
        # the service from shared workers.
        for i in range(bisect_left(self._knees, in_flight)):
            in_line = likelihood((self._knees[i] - 1) / others) / all_at_once
            either = lines[i] * in_line + 1 - lines[i]
            weights[i] *= either
            probability = lines[i] * in_line / either
            lines[i] = min(MAX_LINE_PROBABILITY, max(1 - MAX_LINE_PROBABILITY, probability))
        self._weights = _normalized(weights)

    def _predict(self, trips: float) -> None:
        """Let round trips pass: the knee may have jumped, while the service's time stayed."""
        jump = 1 - exp(-KNEE_JUMP_RATE * trips)
        before, normals = self._weights, self._normals
        time = sum(weight * normal[0] for weight, normal in zip(before, normals, strict=True))
        variance = sum(
            weight * (normal[2] + (normal[0] - time) ** 2)
            for weight, normal in zip(before, normals, strict=True)
        )
        any_knee = (time, SLOPE_MEAN, variance, 0.0, SLOPE_SD * SLOPE_SD)
        line = sum(map(mul, before, self._lines))
        weights = self._weights = list[float]()
        for i, arrival in enumerate(self._arrivals(before)):
            weight = (1 - jump) * before[i] + jump * arrival
            share = jump * arrival / weight
            normals[i] = _moment_match(normals[i], any_knee, share)
            self._lines[i] += share * (line - self._lines[i])
            weights.append(weight)

    def _arrivals(self, weights: list[float]) -> list[float]:
        """Return the distribution of the knee after a jump: near places are more probable."""
        rising = _smear(weights, self._fading)
        falling = _smear(weights[::-1], self._fading[::-1])[::-1]
        return _normalized(list(map(mul, map(add, rising, falling), self._prior)))


def _order_likelihood(
    worked_on: float,
    overtaken: float,
    gini: float,
    *,
    others: float,
    calls: int,
    shortfall_weight: float,
) -> float:
    """Return the likelihood of a share overtaken, up to a constant factor.

    Args:
      worked_on: the share of the others that the service works on, in the hypothesis.
      overtaken: the mean share of the others that calls had overtaken.
      gini: the Gini index of the service times.
      others: mean number of other calls in flight.
      calls: the number of calls behind the mean.
      shortfall_weight: how much it counts if calls overtook less than expected.
    """
    expected = gini * worked_on
    differs = worked_on * worked_on * gini * (1 - gini) / SHARE_VARIANCE_DIVISOR
    chance = expected * (1 - gini) / others
    model_variance = (GINI_DOUBT * expected) ** 2 + ORDER_DOUBT * ORDER_DOUBT
    variance = ORDER_CLUSTER_VARIANCE * (differs + chance) / calls + model_variance
    off = overtaken - expected
    weight = shortfall_weight if off < 0 else 1.0
    return exp(-weight * off * off / (2 * variance)) / sqrt(variance) + MIN_LIKELIHOOD


def _kalman_update(
    normal: _Normal, log_queue: float, log_latency: float, noise: float, jump: float
) -> tuple[_Normal, float]:
    """Return a distribution after a reading, and the likelihood of the reading.

    The result merges two Kalman updates by their moments: in one the time stayed, in the other
    it jumped. The observation is ``time + log_queue * slope``.

    Args:
      normal: the distribution before the reading.
      log_queue: factor of the slope: the logarithm of the delay by the queue, at a slope of 1.
      log_latency: the logarithm of the latency.
      noise: the variance of that logarithm.
      jump: the probability that the time has jumped.
    """
    time, slope, time_var, covariance, slope_var = normal
    time_cov, slope_cov = time_var + log_queue * covariance, covariance + log_queue * slope_var
    innovation = log_latency - time - log_queue * slope
    stay_var = time_cov + log_queue * slope_cov + noise
    jump_var = stay_var + JUMP_VARIANCE
    stayed = (1 - jump) * exp(-innovation * innovation / (2 * stay_var)) / sqrt(stay_var)
    jumped = jump * exp(-innovation * innovation / (2 * jump_var)) / sqrt(jump_var) + MIN_LIKELIHOOD
    share = jumped / (stayed + jumped)
    # The Kalman gains if the time stayed, and how much larger they are if it jumped.
    time_gain, slope_gain = time_cov / stay_var, slope_cov / stay_var
    more_time = (time_cov + JUMP_VARIANCE) / jump_var - time_gain
    more_slope = slope_cov / jump_var - slope_gain
    between = share * (1 - share) * innovation * innovation
    return (
        time + (time_gain + share * more_time) * innovation,
        slope + (slope_gain + share * more_slope) * innovation,
        time_var
        - time_gain * time_cov
        + share * (JUMP_VARIANCE * (1 - time_gain - more_time) - more_time * time_cov)
        + between * more_time * more_time,
        covariance - (time_gain + share * more_time) * slope_cov + between * more_time * more_slope,
        slope_var
        - (slope_gain + share * more_slope) * slope_cov
        + between * more_slope * more_slope,
    ), stayed + jumped


def _moment_match(normal: _Normal, other: _Normal, share: float) -> _Normal:
    """Return the normal distribution with the moments of a mixture, the other's share given."""
    time, slope, time_var, covariance, slope_var = normal
    time_off, slope_off = other[0] - time, other[1] - slope
    between = share * (1 - share)
    return (
        time + share * time_off,
        slope + share * slope_off,
        time_var + share * (other[2] - time_var) + between * time_off * time_off,
        covariance + share * (other[3] - covariance) + between * time_off * slope_off,
        slope_var + share * (other[4] - slope_var) + between * slope_off * slope_off,
    )


def _normalized(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [weight / total for weight in weights]


def _grid(most: int) -> list[float]:
    knees = [1.0]
    while knees[-1] < most:
        knees.append(knees[-1] + max(1.0, GRID_SPACING * knees[-1]))
    return knees


def _smear(weights: Sequence[float], fading: Sequence[float]) -> list[float]:
    """Return for each place the sum of the weights before it, each fading with the distance."""
    smeared, carried = [0.0], 0.0
    for weight, factor in zip(weights, fading, strict=False):
        carried = (carried + weight) * factor
        smeared.append(carried)
    return smeared
