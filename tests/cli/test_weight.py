"""``turnstile run --weight``: heavy inputs take several places under the limit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from trio_turnstile.cli._columns import Columns
from trio_turnstile.cli._weights import Weight

Call = Callable[..., Any]


def test_a_weight_by_column(call: Call, log_entries: Any) -> None:
    """Running operations never weigh more than the limit, and start in the order of inputs."""
    inputs = "3 a\n2 b\n1 c\n4 d\n1 e\n"
    options = ("-j4", "--colsep", " ", "--weight", "{1}", "--joblog", "log")
    result = call("run", *options, "--work", "sleep 0.1; : {2}", stdin=inputs.encode())
    assert result.status == 0
    spans = {entry[-1][-2]: (float(entry[2]), float(entry[3])) for entry in log_entries()}
    assert sorted(spans) == ["a", "b", "c", "d", "e"]
    begin, seconds = spans.pop("d")
    for began, took in spans.values():
        assert began + took <= begin + 0.05 or began >= begin + seconds - 0.05


def test_one_weight_for_all(call: Call, log_entries: Any) -> None:
    """Two of weight 2 fill a limit of 4."""
    options = ("-j4", "--weight", "2", "--joblog", "log", "--work", "sleep 0.2; :")
    assert call("run", *options, "--", *"abc").status == 0
    spans = sorted((float(entry[2]), float(entry[3])) for entry in log_entries())
    assert spans[2][0] >= spans[0][0] + spans[0][1] - 0.05


def test_inputs_that_are_too_heavy_fail(call: Call) -> None:
    """The others run, their outputs are printed in order, and the error says why."""
    inputs = "1 a\nx b\n0 c\n9 d\n2 e\n"
    options = ("-k", "-j4", "--colsep", " ", "--weight", "{1}")
    result = call("run", *options, "--work", "echo {2}", stdin=inputs.encode())
    assert result.status == 3
    assert result.out.split() == ["a", "e"]
    assert "2 completed, 3 failed" in result.err
    assert "--weight: 'x' is not a whole number of 1 or more" in result.err
    assert "limit of 4 tokens, and 9 were asked for" in result.err


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ("5", "5 is more than the limit can ever be, which is 4"),
        ("0", "'0' is not a whole number of 1 or more"),
        ("heavy", "'heavy' is not a whole number"),
        ("1.5", "'1.5' is not a whole number"),
    ],
)
def test_weights_that_cannot_be(weight: str, words: str, call: Call) -> None:
    """They are refused, and nothing runs."""
    result = call("run", "-j4", "--weight", weight, "--work", "true", "--", "a")
    assert result.status == 2
    assert f"--weight: {words}" in result.err


def test_a_lower_limit_fails_what_is_too_heavy(call: Call, gate: Any) -> None:
    """It would wait for ever, and block the operations after it."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("4 -> 2")
        gate.let(3)

    inputs = "3 a\n3 b\n1 c\n"
    options = ("-j4", "--colsep", " ", "--weight", "{1}", "--hold", "0")
    result = call("run", *options, "--work", gate.wait, stdin=inputs.encode(), operator=operate)
    assert result.status == 1
    assert "limit of 2 tokens, and 3 were asked for" in result.err


def test_a_weight_is_what_a_text_comes_to() -> None:
    """It is a number, or a text with placeholders."""
    assert Weight.parse("4", Columns(), 4).for_phases == 4
    assert callable(Weight.parse("{#}", Columns(), 4).for_phases)
    assert callable(Weight.parse("{2}", Columns(2), 4).for_phases)
