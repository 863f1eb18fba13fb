"""``turnstile run``: the options that say when operations may start."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from trio_turnstile.cli._rates import Rate

Call = Callable[..., Any]


# ---- rates ----


@pytest.mark.parametrize(
    ("text", "per_second"), [("5/s", 5), ("100/m", 100 / 60), ("900/h", 0.25), (" .5/s ", 0.5)]
)
def test_a_rate_is_a_number_in_a_time(text: str, per_second: float) -> None:
    """Rates are per second, minute or hour."""
    assert Rate.parse(text).per_second == per_second


@pytest.mark.parametrize("text", ["", "5", "0/s", "-1/s", "5/d", "5 / s", "1e3/s", "nan/s", "/s"])
def test_anything_else_is_no_rate(text: str) -> None:
    """The error shows the text, and what a rate looks like."""
    with pytest.raises(ValueError, match="as in 5/s, 100/m or 1000/h") as error_info:
        Rate.parse(text)
    assert repr(text) in str(error_info.value)


@pytest.mark.parametrize("options", [["--rate", "10/s"], ["--delay", "100ms"], ["--rate", "600/m"]])
def test_operations_start_at_a_rate(options: list[str], call: Call, log_entries: Any) -> None:
    """With --rate or --delay the starts are apart, whatever the limit; retries count."""
    retry = ("--retries", "1", "--joblog", "log", "--work", "test $TURNSTILE_ATTEMPT = 2 # ")
    result = call("run", "-j8", *options, *retry, "--", *"abc", stdin=b"")
    assert result.status == 0
    starts = sorted(float(entry[2]) for entry in log_entries())
    assert starts[-1] - starts[0] > 0.18  # two starts apart, with a little for the clocks


def test_the_slower_of_rate_and_delay_counts(call: Call, log_entries: Any) -> None:
    """Given both, both hold."""
    options = ("--rate", "1000/s", "--delay", "100ms", "--joblog", "log")
    call("run", "-j8", *options, "--work", "true", "--", "a", "b")
    first, second = sorted(float(entry[2]) for entry in log_entries())
    assert second - first > 0.08


def test_what_waits_for_the_rate_does_not_start_after_a_stop(call: Call, gate: Any) -> None:
    """A stop signal gives up the operations that wait for their time."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGINT)
        watch.err.wait_for("starting nothing more")
        gate.let(1)

    options = ("-j2", "--rate", "1/h", "--work", gate.wait)
    result = call("run", *options, "--", *"abc", operator=operate)
    assert result.status == 130
    assert "1 completed, 0 failed" in result.err
    assert "2 not started" in result.err
