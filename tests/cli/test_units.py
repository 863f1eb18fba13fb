"""Durations and halting rules, as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile import Halt
from trio_turnstile.cli._durations import Duration, format_clock
from trio_turnstile.cli._units import Goal, parse_halt


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10m", 600),
        ("1.5h", 5400),
        ("2d", 172_800),
        ("250ms", 0.25),
        ("30", 30),
        ("0", 0),
        (".5", 0.5),
        ("3.", 3),
        (" 7s ", 7),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    """A duration without a unit is in seconds."""
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "-1s", "1 s", "1w", "1h30m", "nan", "inf", "1e3", "9" * 400, "٣s", "1..5", "."],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """The error shows the text, and what a duration looks like."""
    with pytest.raises(ValueError, match=r"like 30s, 10m or 1\.5h") as error_info:
        Duration.parse(text)
    assert repr(text) in str(error_info.value)


@pytest.mark.parametrize("text", ["30s", "10m", "1.5h", "2d", "0.25s", "100s", "0s", "1.25m"])
def test_a_duration_is_shown_as_it_is_written(text: str) -> None:
    """A duration is shown in the largest unit that gives a plain number."""
    assert str(Duration.parse(text)) == text


@given(st.integers(0, 10**9))
def test_a_shown_duration_is_read_back(seconds: int) -> None:
    """Parsing what is shown gives the same duration."""
    assert Duration.parse(str(Duration(seconds))) == seconds


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3599, "59:59"), (93784, "26:03:04")],
)
def test_a_clock_shows_hours_only_if_there_are_any(seconds: float, shown: str) -> None:
    """Seconds are rounded, and hours are left out if there are none."""
    assert format_clock(seconds) == shown


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("never", None),
        ("soon,fail=3", Halt("soon", fail=3)),
        ("now,fail=10%", Halt("now", fail="10%")),
        ("now,fail=2.5%", Halt("now", fail="2.5%")),
        ("now,success=1", Goal("now", "success", 1)),
        ("soon,success=50%", Goal("soon", "success", 3, 0.5)),
        ("soon,done=100", Goal("soon", "done", 100)),
    ],
)
def test_a_halting_rule_says_when_and_why(text: str, policy: Halt | Goal | None) -> None:
    """The text gives the policy that it describes; ``never`` gives none."""
    assert parse_halt(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "soon,fail",
        "soon,fail=",
        "later,fail=3",
        "now,ended=3",
        "now,fail=0",
        "now,fail=x",
        "now,fail=101%",
    ],
)
def test_anything_else_is_no_halting_rule(text: str) -> None:
    """The error shows the text, or the part of it that is wrong."""
    with pytest.raises(ValueError, match="fail") as error_info:
        parse_halt(text)
    assert repr(text) in str(error_info.value) or text.partition("=")[2] in str(error_info.value)


@pytest.mark.parametrize("amount", ["0", "x", "", "0%", "101%", "-1", "1.5"])
@pytest.mark.parametrize("of", ["success", "done"])
def test_a_goal_has_a_number_or_a_share(of: str, amount: str) -> None:
    """The error shows what a goal looks like."""
    with pytest.raises(ValueError, match=r"success=|done="):
        parse_halt(f"now,{of}={amount}")


def test_all_that_ended_have_no_share() -> None:
    """Every operation that ended has ended, so a share of them says nothing."""
    with pytest.raises(ValueError, match="done= takes a number, as in done=100"):
        parse_halt("soon,done=50%")


def test_a_share_takes_three() -> None:
    """A share of the first two operations says little."""
    goal = Goal("now", "success", 3, 0.5)
    assert not goal.is_reached(2, 2)
    assert not goal.is_reached(3, 7)
    assert goal.is_reached(3, 6)
