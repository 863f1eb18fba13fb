"""What is believed of a service: where its knee is, and how fast it is.

A service that works on ``knee`` calls at once, for ``time`` seconds each, answers n calls in flight
after

    latency = time * max(1, n / knee)

so that below the knee its latency tells the time alone, above it ``time / knee``, and only
readings on both sides tell the knee. If every latency doubles, the service may be slower or
smaller: both are believed, as far as each is likely, until a reading at another limit tells.

The belief is a probability for every knee on a grid, and to each of these knees a normal
distribution of the logarithm of the time. A reading changes both by Bayes' rule. Between two
readings the service may have changed, so what is believed widens as time goes by: doubt is what
makes it worth while to look again, and the older the news the wider.

(A bank of Kalman filters weighted by how well each predicts, with jumps as a second hypothesis
whose outcome is merged by its moments; Bar-Shalom, Li, Kirubarajan, "Estimation with Applications
to Tracking and Navigation", 2001, chapter 11.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, log, sqrt
from operator import add, mul
from typing import final

GRAIN = 0.1
"""The grid's knees lie at least 1 apart, and at least this share of themselves."""
CAPACITY_JUMPS, SPEED_JUMPS = 0.006, 0.006
"""How likely it is, per round trip, that the knee jumps, and that the time does."""
FAR = 0.7
"""How far each jumps, in logarithms: about a doubling or a halving."""
MISFIT = 0.6
"""Doubt in the law, as a share of what it says the queue adds: a service may be slowed down by
what waits, or share its queue with other clients."""
JUMP = FAR * FAR
"""The variance that a jump adds."""
IMPOSSIBLE = 1e-12
"""The least likelihood, so that nothing that was read can rule everything out."""
UNKNOWN = 100.0
"""Variance of the time before the first reading."""


@final
class Belief:
    """A probability for each knee, and with each knee a distribution of the service's time.

    Args:
      most: the largest knee that is of interest, in calls.
    """

    def __init__(self, most: int) -> None:
        self._knees = _grid(most)
        middles = [(here + there) / 2 for here, there in pairwise(self._knees)]
        self._edges = [-0.35, *middles, self._knees[-1] + GRAIN / 2]
        widths = [there - here for here, there in pairwise(self._edges)]
        self._prior = [width / sum(widths) for width in widths]
        self._near = [exp((here - there) / FAR) for here, there in pairwise(self._knees)]
        self._weights = list(self._prior)
        self._means = [0.0] * len(widths)
        self._variances = [UNKNOWN] * len(widths)

    def knee(self, share: float) -> float:
        """Return the number of calls that the knee is below with a probability of ``share``."""
        below = 0.0
        for i, weight in enumerate(self._weights):
            if below + weight >= share:
                low, high = self._edges[i : i + 2]
                return exp(low + (high - low) * (share - below) / weight)
            below += weight
        return exp(self._knees[-1])

    def learn(self, in_flight: float, latency: float, error: float, trips: float) -> None:
        """Take a reading into account.

        Args:
          in_flight: mean number of calls in flight.
          latency: typical latency, in seconds.
          error: standard error of the latency's logarithm.
          trips: how many times its latency the last reading is past.
        """
        self._doubt(trips)
        jump = 1 - exp(-SPEED_JUMPS * trips)
        seen, calls, noise = log(latency), log(in_flight), error * error
        weights, means, variances = self._weights, self._means, self._variances
        for i, knee in enumerate(self._knees):
            queue = calls - knee if calls > knee else 0.0
            variance = variances[i]
            off = seen - queue - means[i]
            # Two hypotheses: the time is what it was, or it has jumped.
            usual = variance + noise + MISFIT * MISFIT * queue * queue
            wide = usual + JUMP
            stayed = (1 - jump) * exp(-off * off / (2 * usual)) / sqrt(usual)
            jumped = jump * exp(-off * off / (2 * wide)) / sqrt(wide) + IMPOSSIBLE
            likelihood = stayed + jumped
            share = jumped / likelihood
            slow, fast = variance / usual, (variance + JUMP) / wide
            apart = (fast - slow) * off
            means[i] += slow * off + share * apart
            variances[i] = (1 - share) * (variance * (1 - slow) + share * apart * apart) + share * (
                variance + JUMP
            ) * (1 - fast)
            weights[i] *= likelihood
        total = sum(weights)
        self._weights = [weight / total for weight in weights]

    def _doubt(self, trips: float) -> None:
        """Let time pass: the knee may have jumped, with the service's time what it was."""
        jump = 1 - exp(-CAPACITY_JUMPS * trips)
        before, means, variances = self._weights, self._means, self._variances
        mean = sum(map(mul, before, means))
        spread = sum(map(mul, before, variances)) + sum(
            weight * (here - mean) ** 2 for weight, here in zip(before, means, strict=True)
        )
        weights = self._weights = list[float]()
        for i, arrival in enumerate(self._arrivals(before)):
            arriving = jump * arrival
            weight = (1 - jump) * before[i] + arriving
            share = arriving / weight
            apart = mean - means[i]
            means[i] += share * apart
            variances[i] += share * (spread - variances[i] + (1 - share) * apart * apart)
            weights.append(weight)

    def _arrivals(self, weights: list[float]) -> list[float]:
        """Return where the knee would be after a jump: the nearer to where it was the likelier."""
        rising = _swept(weights, self._near)
        falling = _swept(weights[::-1], self._near[::-1])[::-1]
        reached = list(map(mul, map(add, rising, falling), self._prior))
        total = sum(reached)
        return [weight / total for weight in reached]


def _grid(most: int) -> list[float]:
    knees = [1.0]
    while knees[-1] < most:
        knees.append(knees[-1] + max(1.0, GRAIN * knees[-1]))
    return [log(knee) for knee in knees]


def _swept(weights: Sequence[float], near: Sequence[float]) -> list[float]:
    """Return for each place the weights before it, each fading with the distance."""
    swept, carried = [0.0], 0.0
    for weight, fading in zip(weights, near, strict=False):
        carried = (carried + weight) * fading
        swept.append(carried)
    return swept
