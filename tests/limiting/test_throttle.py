"""`Throttle`: the rules for one signal, without the hold. Sans-I/O: no event loop is needed."""

from __future__ import annotations

import math

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_turnstile import Signal, Throttle

UP, DOWN = Signal.UP, Signal.DOWN


def test_the_defaults_are_one_up_two_down_minimum_one_hold_thirty_seconds() -> None:
    """The defaults are +1, -2, at least 1 and 30 seconds, unless the user sets others."""
    assert attrs.asdict(Throttle()) == {
        "up": 1,
        "down": 2,
        "min": 1,
        "hold": 30.0,
        "max_pause": 60.0,
    }


def test_throttles_are_values() -> None:
    """Rules that are equal compare and hash equal, and are frozen; arguments are keyword-only."""
    assert Throttle(up=3) == Throttle(up=3)
    assert hash(Throttle(up=3)) == hash(Throttle(up=3))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Throttle().up = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        Throttle(1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("rules", "signal", "cap", "ceiling", "expected"),
    [
        ({}, UP, 5, 10, 6),
        ({"up": 4}, UP, 5, 10, 9),
        ({"up": 9}, UP, 5, 10, 10),
        ({}, UP, 10, 10, 10),
        ({}, UP, math.inf, math.inf, math.inf),
        ({}, UP, 5, math.inf, 6),
        ({"min": 4}, UP, 0, 10, 4),
        ({}, DOWN, 10, 10, 8),
        ({"down": 20}, DOWN, 10, 10, 1),
        ({"down": 20, "min": 0}, DOWN, 10, 10, 0),
        ({"min": 4}, DOWN, 5, 10, 4),
        ({"min": 4}, DOWN, 4, 10, 4),
        ({"min": 4}, DOWN, 2, 10, 2),
    ],
)
def test_one_step(
    rules: dict[str, int], signal: Signal, cap: float, ceiling: float, expected: float
) -> None:
    """A step moves the cap by ``up`` or ``down``, and stops at the ceiling or the minimum."""
    assert Throttle(**rules).step(signal, cap, ceiling, in_use=0) == expected


@pytest.mark.parametrize(("in_use", "expected"), [(100, 98), (2, 1), (0, 1)])
def test_an_infinite_cap_comes_down_from_what_is_in_use(in_use: int, expected: float) -> None:
    """Infinity minus two is still infinity, so the cap comes down from the number in use."""
    assert Throttle().step(DOWN, math.inf, math.inf, in_use) == expected


@settings(deadline=None)
@given(
    signal=st.sampled_from(Signal),
    up=st.integers(1, 50),
    down=st.integers(1, 50),
    minimum=st.integers(0, 20),
    cap=st.integers(0, 100) | st.just(math.inf),
    headroom=st.integers(0, 100) | st.just(math.inf),
    in_use=st.integers(0, 100),
)
def test_a_step_never_goes_the_wrong_way_or_out_of_bounds(
    signal: Signal, up: int, down: int, minimum: int, cap: float, headroom: float, in_use: int
) -> None:
    """Up never lowers the cap, down never raises it, and it stays within minimum and ceiling."""
    ceiling = max(cap, minimum) + headroom
    after = Throttle(up=up, down=down, min=minimum).step(signal, cap, ceiling, in_use)
    if signal is UP:
        assert cap <= after <= ceiling
        assert after >= minimum
        assert after <= max(cap + up, minimum)
    else:
        assert after <= cap
        assert after >= min(cap, minimum)
        assert after >= cap - down or cap == math.inf
