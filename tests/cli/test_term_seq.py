"""``turnstile run --termseq``: the signals that end a command."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from trio_turnstile.cli._term_seq import TermSeq

Call = Callable[..., Any]


def test_signals_and_milliseconds_alternate() -> None:
    """Names may begin with SIG; the steps leave out the final KILL."""
    assert TermSeq.parse("INT,200,SIGTERM,1500,KILL").steps == (
        (signal.SIGINT, 0.2),
        (signal.SIGTERM, 1.5),
    )
    assert TermSeq.parse("KILL").steps == ()


@pytest.mark.parametrize(
    "text", ["", "TERM", "TERM,5000", "5000,KILL", "TERM,KILL", "NO,1,KILL", "TERM,-1,KILL"]
)
def test_anything_else_is_no_sequence(text: str) -> None:
    """The error shows the text, and what a sequence looks like."""
    with pytest.raises(ValueError, match="as in TERM,5000,KILL") as error_info:
        TermSeq.parse(text)
    assert repr(text) in str(error_info.value)


def test_a_command_is_ended_by_the_signals_in_turn(call: Call) -> None:
    """A command that ignores the first signals is killed at the end."""
    work = "trap 'echo int' INT; trap 'echo term' TERM; while :; do sleep 0.01; done # "
    options = ("--timeout", "0.3s", "--termseq", "INT,300,TERM,300,KILL", "--work", work + "{#}")
    result = call("run", *options, "--", "a")
    assert (result.status, result.lines) == (1, ["int", "term"])
    assert "timed out, ended by SIGKILL" in result.err


def test_there_is_one_way_to_say_it(call: Call) -> None:
    """--kill-after contradicts --termseq."""
    options = ("--kill-after", "1s", "--termseq", "TERM,5,KILL", "--work", "echo")
    result = call("run", *options, "--", "a")
    assert (result.status, "--termseq and --kill-after" in result.err) == (2, True)
