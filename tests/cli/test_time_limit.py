"""``--timeout 300%``: a limit on run times that follows their median."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from trio_turnstile.cli._durations import Duration, Multiple, parse_timeout
from trio_turnstile.cli._time_limit import MultipleOfMedian

Call = Callable[..., Any]


def seconds(limit: MultipleOfMedian) -> float:
    """Return how long a command may take that starts now."""
    return limit.scope().deadline - trio.current_time()


def test_a_command_may_take_a_multiple_of_the_median(call: Call) -> None:
    """A command that hangs is ended once three others have shown how long one takes."""
    work = "test {} != slow || exec sleep 1000; sleep 0.1"
    options = ("-j4", "--timeout", "1000%", "--work", work)
    result = call("run", *options, "--", "slow", "a", "b", "c")
    assert result.status == 1
    assert "'slow': work: timed out, ended by SIGTERM" in result.err
    assert "3 completed, 1 failed" in result.err


def test_two_operations_say_nothing_of_the_others(call: Call) -> None:
    """Before three have completed, a command may take as long as it likes."""
    options = ("-j1", "--timeout", "0.001%", "--work", "sleep 0.1; : {}")
    result = call("run", *options, "--", *"abcd")
    assert result.status == 1
    assert "3 completed, 1 failed" in result.err
    assert "4 'd': work: timed out" in result.err


async def test_the_limit_holds_for_what_runs_and_moves_with_the_median(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It counts from the start of each command, whenever the median became known."""
    limit = MultipleOfMedian(3)
    running, began = limit.scope(), trio.current_time()
    await trio.sleep(1)
    for each in (2, 100):
        limit.note_completed(each)
    assert running.deadline == seconds(limit) == float("inf")
    limit.note_completed(4)
    assert running.deadline == began + 12
    assert seconds(limit) == 12
    for _ in range(3):
        limit.note_completed(100)
    assert running.deadline == began + 300


async def test_a_small_change_of_the_median_moves_nothing() -> None:
    """Deadlines are not set again for one hundredth."""
    limit = MultipleOfMedian(3)
    for each in (10, 10, 10, 10.05, 10.05, 10.05, 10.05):
        limit.note_completed(each)
    assert seconds(limit) == pytest.approx(30, abs=0.01)


async def test_the_median_is_that_of_the_last_operations() -> None:
    """What was slow a thousand operations ago does not count, and takes no memory."""
    limit = MultipleOfMedian(2)
    for each in [50.0] * 1500 + [1.0] * 1000:
        limit.note_completed(each)
    assert seconds(limit) == pytest.approx(2, abs=0.01)
    assert len(limit._sorted) == 1000


@pytest.mark.parametrize(("text", "value"), [("300%", 3), (" 12.5% ", 0.125), (".5%", 0.005)])
def test_a_share_is_a_multiple(text: str, value: float) -> None:
    """A text with a percent sign is a multiple of the median."""
    assert parse_timeout(text) == Multiple(value)
    assert isinstance(parse_timeout(text), Multiple)


def test_anything_else_is_a_duration() -> None:
    """A text without a percent sign is a time."""
    assert isinstance(parse_timeout("10m"), Duration)


@pytest.mark.parametrize("text", ["", "%", "-3%", "1e3%", "3 %", "much"])
def test_what_is_neither_is_refused(text: str) -> None:
    """The error shows both ways to write it."""
    with pytest.raises(ValueError, match=r"like 30s, .* 300% is three times the median"):
        parse_timeout(text)


def test_no_time_at_all_is_refused(call: Call) -> None:
    """A share must be over 0, as a duration must."""
    result = call("run", "--work", "true", "--timeout", "0%", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert "--timeout" in result.err
