"""Bad arguments raise an error that names the value and the rule it breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import trio_turnstile
from trio_turnstile import open_turnstile

NAN = math.nan

# Untyped, as for users without a type checker.
Limiter: Any = trio_turnstile.Limiter
Throttle: Any = trio_turnstile.Throttle
PhaseTimeouts: Any = trio_turnstile.PhaseTimeouts


async def _open(sample_every: Any) -> None:
    async with open_turnstile(sample_every=sample_every):
        pass


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("up must be an int, not 1.5", lambda: Throttle(up=1.5)),
        ("up must be an int, not True", lambda: Throttle(up=True)),
        ("up must be an int, not inf", lambda: Throttle(up=math.inf)),
        ("down must be an int, not '2'", lambda: Throttle(down="2")),
        ("down must be an int, not nan", lambda: Throttle(down=NAN)),
        ("min must be an int, not False", lambda: Throttle(min=False)),
        ("min must be an int, not None", lambda: Throttle(min=None)),
        ("hold must be a number of seconds, not '30s'", lambda: Throttle(hold="30s")),
        ("hold must be a number of seconds, not True", lambda: Throttle(hold=True)),
        ("hold must be a number of seconds, not None", lambda: Throttle(hold=None)),
        ("ceiling must be an int or math.inf, not 1.5", lambda: Limiter("x", 1.5)),
        ("ceiling must be an int or math.inf, not True", lambda: Limiter("x", True)),
        ("ceiling must be an int or math.inf, not nan", lambda: Limiter("x", NAN)),
        ("ceiling must be an int or math.inf, not -inf", lambda: Limiter("x", -math.inf)),
        ("ceiling must be an int or math.inf, not '5'", lambda: Limiter("x", "5")),
        ("max_waiting must be an int, not 1.0", lambda: Limiter("x", 5, max_waiting=1.0)),
        ("max_waiting must be an int, not True", lambda: Limiter("x", 5, max_waiting=True)),
        ("max_waiting must be an int, not inf", lambda: Limiter("x", 5, max_waiting=math.inf)),
    ],
)
def test_a_value_of_a_wrong_type_is_a_type_error(message: str, make: Callable[[], object]) -> None:
    """The message names the argument, the type it must have, and its value."""
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("up must be at least 1, not 0", lambda: Throttle(up=0)),
        ("down must be at least 1, not -2", lambda: Throttle(down=-2)),
        ("min must be at least 0, not -1", lambda: Throttle(min=-1)),
        ("hold must be 0 or more seconds, not -0.1", lambda: Throttle(hold=-0.1)),
        ("hold must be 0 or more seconds, not nan", lambda: Throttle(hold=NAN)),
        ("hold must be 0 or more seconds, not -inf", lambda: Throttle(hold=-math.inf)),
        ("total_tokens must be >= 0", lambda: Limiter("x", -1)),  # in trio's words
        ("max_waiting must be at least 0, not -1", lambda: Limiter("x", 5, max_waiting=-1)),
        ("work must be more than 0 seconds, not 0", lambda: PhaseTimeouts(work=0)),
        ("work must be more than 0 seconds, not nan", lambda: PhaseTimeouts(work=NAN)),
        (
            (
                "throttle.min must not be above the ceiling: 3 > 2; "
                "raise the ceiling of limiter 'api' or lower the minimum"
            ),
            lambda: Limiter("api", 2, throttle=Throttle(min=3)),
        ),
    ],
)
def test_a_value_that_breaks_a_rule_is_a_value_error(
    message: str, make: Callable[[], object]
) -> None:
    """The message names the argument, the rule and the value."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Throttle(up=10**9, down=10**9, min=0, hold=0), id="large steps"),
        pytest.param(lambda: Throttle(hold=math.inf), id="an endless hold"),
        pytest.param(lambda: Limiter("x", math.inf), id="no ceiling"),
        pytest.param(lambda: Limiter("x", 1), id="the default minimum"),
        pytest.param(lambda: Limiter("x", 0, throttle=Throttle(min=0)), id="no tokens"),
        pytest.param(lambda: Limiter("x", 5, throttle=Throttle(min=5)), id="fixed by the rules"),
        pytest.param(lambda: Limiter("x", 5, max_waiting=0), id="no queue"),
    ],
)
def test_values_at_the_edge_of_the_rules_are_taken(make: Callable[[], object]) -> None:
    """A value at the edge of a rule is accepted."""
    make()


async def test_the_sampling_period_is_a_number_over_zero() -> None:
    """`open_turnstile` refuses a bad sampling period before it starts anything."""
    with pytest.raises(TypeError, match=r"^sample_every must be a number of seconds, not '2'$"):
        await _open("2")
    for bad in (0, -1.0, NAN):
        with pytest.raises(
            ValueError, match=rf"^sample_every must be more than 0 seconds, not {bad}$"
        ):
            await _open(bad)


async def test_the_length_of_a_pause_is_a_number_over_zero() -> None:
    """`pause` raises at once for a bad length, and posts no signal."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("api", 5)
        with pytest.raises(ValueError, match="seconds must be more than 0 seconds, not 0"):
            limiter.pause(0)
        with pytest.raises(TypeError, match="seconds must be a number of seconds, not '5m'"):
            limiter.pause("5m")  # type: ignore[arg-type]
    assert limiter.decisions == ()
