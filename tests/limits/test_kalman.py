"""The updates of the belief, compared with Kalman filters and moment matching from a textbook.

The textbook versions here use matrices and are easy to check. The package has the same
formulas, multiplied out and simplified, because they run for every knee at every reading.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_turnstile.limits._knee.belief import (
    JUMP_VARIANCE,
    MIN_LIKELIHOOD,
    _kalman_update,
    _moment_match,
)

Vector: TypeAlias = tuple[float, float]
Matrix: TypeAlias = tuple[Vector, Vector]
Flat: TypeAlias = tuple[float, float, float, float, float]
"""A belief as the package stores it: two means, and three numbers of a symmetric covariance."""
INDICES = (0, 1)


@st.composite
def normals(draw: st.DrawFn) -> Flat:
    """Distributions of the logarithm of a time and of a slope."""
    time_variance = draw(st.floats(1e-3, 5))
    slope_variance = draw(st.floats(1e-3, 0.2))
    correlation = draw(st.floats(-0.9, 0.9))
    return (
        draw(st.floats(-9, 9)),
        draw(st.floats(0.5, 2)),
        time_variance,
        correlation * math.sqrt(time_variance * slope_variance),
        slope_variance,
    )


def unflatten(normal: Flat) -> tuple[Vector, Matrix]:
    time, slope, time_variance, covariance, slope_variance = normal
    return (time, slope), ((time_variance, covariance), (covariance, slope_variance))


def filtered(
    mean: Vector, covariance: Matrix, observed: Vector, value: float, noise: float
) -> tuple[Vector, Matrix, float]:
    """One step of a Kalman filter: the new mean and covariance, and the likelihood."""
    projected = [sum(covariance[i][j] * observed[j] for j in INDICES) for i in INDICES]
    variance = sum(observed[i] * projected[i] for i in INDICES) + noise
    gain = [projected[i] / variance for i in INDICES]
    innovation = value - sum(observed[i] * mean[i] for i in INDICES)
    first, second = (
        (covariance[i][0] - gain[i] * projected[0], covariance[i][1] - gain[i] * projected[1])
        for i in INDICES
    )
    likelihood = math.exp(-innovation * innovation / (2 * variance)) / math.sqrt(variance)
    moved = (mean[0] + gain[0] * innovation, mean[1] + gain[1] * innovation)
    return moved, (first, second), likelihood


def mixed(parts: list[tuple[float, Vector, Matrix]]) -> Flat:
    """The moments of a mixture: the mean of the covariances, and the covariance of the means."""
    means = [sum(weight * mean[i] for weight, mean, _ in parts) for i in INDICES]

    def moment(i: int, j: int) -> float:
        return sum(
            weight * (covariance[i][j] + (mean[i] - means[i]) * (mean[j] - means[j]))
            for weight, mean, covariance in parts
        )

    return means[0], means[1], moment(0, 0), moment(0, 1), moment(1, 1)


@settings(max_examples=300)
@given(normals(), st.floats(0, 3), st.floats(-4, 4), st.floats(1e-3, 1), st.floats(0, 0.3))
def test_a_reading_is_two_kalman_updates(
    normal: Flat, log_queue: float, off: float, noise: float, jump: float
) -> None:
    """The filters for a time that stayed and a time that jumped, merged by their moments."""
    mean, covariance = unflatten(normal)
    (time_variance, both), second = covariance
    wider = ((time_variance + JUMP_VARIANCE, both), second)
    value, observed = mean[0] + off, (1.0, log_queue)
    stay_mean, stay_covariance, stayed = filtered(mean, covariance, observed, value, noise)
    jump_mean, jump_covariance, jumped = filtered(mean, wider, observed, value, noise)
    stayed, jumped = (1 - jump) * stayed, jump * jumped + MIN_LIKELIHOOD
    share = jumped / (stayed + jumped)
    expected = mixed([(1 - share, stay_mean, stay_covariance), (share, jump_mean, jump_covariance)])

    found, likelihood = _kalman_update(normal, log_queue, value, noise, jump)

    assert found == pytest.approx(expected, rel=1e-9, abs=1e-11)
    assert likelihood == pytest.approx(stayed + jumped, rel=1e-9)


@settings(max_examples=300)
@given(normals(), normals(), st.floats(0, 1))
def test_a_jump_of_the_knee_matches_moments(normal: Flat, other: Flat, share: float) -> None:
    """A mixture of two normal distributions becomes the one with the same moments."""
    expected = mixed([(1 - share, *unflatten(normal)), (share, *unflatten(other))])
    assert _moment_match(normal, other, share) == pytest.approx(expected, rel=1e-9, abs=1e-11)
