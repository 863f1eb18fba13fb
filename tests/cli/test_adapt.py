"""``turnstile run --adapt``: a limit that finds its place by itself."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from trio_turnstile import Decision, Reason, Signal
from trio_turnstile.cli._decisions import DecisionNotes
from trio_turnstile.cli._progress import ProgressSnapshot, describe

Call = Callable[..., Any]

MANY = [str(number) for number in range(30)]


@attrs.define
class Notes:
    """A progress that keeps its notes."""

    texts: list[str] = attrs.field(factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.mark.parametrize("policy", [[], ["knee"], ["aimd"], ["vegas"], ["gradient2"]])
def test_a_limit_can_adapt(policy: list[str], call: Call) -> None:
    """Each policy runs all inputs; knee is the default policy; the maximum is printed."""
    result = call("run", "--adapt", *policy, "-j2", "--work", "echo", "--", "a", "b", "c")
    assert (result.status, sorted(result.lines)) == (0, ["a", "b", "c"])
    name = policy[0] if policy else "knee"
    assert f"turnstile: --adapt {name}: the limit can become 20; --max changes" in result.err


@pytest.mark.parametrize("more", [["--max", "4"], ["-q"]])
def test_a_maximum_that_is_known_is_not_said(more: list[str], call: Call) -> None:
    """A maximum that the user chose is not printed, and --quiet shows nothing but errors."""
    result = call("run", "--adapt", "-j2", *more, "--work", "true", "--", "a")
    assert "can become" not in result.err


def test_a_limit_rises_while_all_goes_well(call: Call) -> None:
    """The note says from where to where the limit moves, and why."""
    result = call("run", "--adapt", "aimd", "-j1", "--max", "8", "--work", "true", "--", *MANY)
    assert result.status == 0
    assert re.search(r"turnstile: limit 1 -> [2-8]: in use\n", result.err)


def test_the_status_for_overload_lowers_the_limit(call: Call) -> None:
    """Commands report overload by their exit status."""
    options = ("--adapt", "aimd", "-j4", "--max", "8", "--overload", "75", "--overload", "9")
    result = call("run", *options, "--work", "exit 75; : {}", "--", *MANY)
    assert result.status == 30
    assert re.search(r"limit 4 -> [123]: overloaded\n", result.err)


def test_a_command_that_times_out_lowers_the_limit(call: Call) -> None:
    """A time-out means overload even if --overload does not list it."""
    options = ("--adapt", "aimd", "-j4", "--max", "8", "--timeout", "0.1s")
    result = call("run", *options, "--work", "exec sleep 1000; : {}", "--", *MANY[:4])
    assert re.search(r"limit 4 -> [123]: overloaded\n", result.err)


def test_other_failures_say_nothing_of_the_load(call: Call) -> None:
    """A fast failure neither raises the limit nor lowers it."""
    options = ("--adapt", "aimd", "-j4", "--max", "8", "--overload", "75")
    result = call("run", *options, "--work", "exit 1; : {}", "--", *MANY)
    assert result.status == 30
    assert "limit 4 ->" not in result.err


def test_signals_change_what_the_limit_can_become(call: Call, gate: Any) -> None:
    """A signal moves the maximum for the policy, and the note says so."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for("turnstile: limit stays 2, and can become 18")
        gate.let(1)

    result = call("run", "--adapt", "-j2", "--work", gate.wait, "--", "a", operator=operate)
    assert result.status == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--overload", "75"], "--overload is only for --adapt"),
        (["--adapt", "--overload", "0"], "--overload"),
        (["--adapt=best"], "--adapt"),
        (["--adapt", "-j9", "--max", "8"], "--limit must be from --min, 1, to --max, 8, not 9"),
    ],
)
def test_wrong_options_are_refused(options: list[str], why: str, call: Call) -> None:
    """Nothing runs, and the error names the option."""
    result = call("run", *options, "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert why in result.err


def test_the_live_line_has_the_reason() -> None:
    """The reason comes after the limit."""
    snapshot = ProgressSnapshot(
        limit=4, running=3, completed=1, failed=0, skipped=0, total=9, state="", why="home"
    )
    assert describe(snapshot, 1).startswith("limit 4 (home), running 3, ")


def test_a_policy_that_moves_all_the_time_is_noted_now_and_then() -> None:
    """There is a note at most every ten seconds, if the limit moved, and one for each signal."""
    notes = Notes()
    note = DecisionNotes(notes).note  # type: ignore[arg-type]
    why = {"reason": "home"}
    note(Decision("run", 0.0, None, 4, 4, Reason.POLICY, why))
    for time in (1.0, 2.0, 10.9, 11.0):
        note(Decision("run", time, None, 4, 5, Reason.POLICY, why))
    note(Decision("run", 12.0, Signal.UP, 5, 6, Reason.SIGNAL))
    note(Decision("run", 12.0, None, 5, 6, Reason.MANUAL))
    assert notes.texts == ["limit 4 -> 5: home", "limit 4 -> 5: home", "limit 5 -> 6"]


def test_what_is_asked_from_outside_is_noted() -> None:
    """The note says who asked, and why; a refused signal says who has set the limit."""
    notes = Notes()
    note = DecisionNotes(notes).note  # type: ignore[arg-type]
    who = {"by": "ana", "note": "night"}
    note(Decision("work", 0.0, None, 2, 20.0, Reason.OVERRIDE, **who))
    note(Decision("work", 1.0, Signal.UP, 20, 20, Reason.OVERRIDDEN, {"by": "ana"}))
    note(Decision("work", 2.0, None, 20, 2, Reason.RELEASED))
    note(Decision("work", 3.0, None, 2, 0, Reason.PAUSED, by="ana"))
    note(Decision("work", 4.0, None, 2, 2, Reason.UNCHANGED, by="ana"))
    assert notes.texts == [
        "limit 2 -> 20: set by ana: night",
        "limit stays 20: up refused, ana has set it",
        "limit 20 -> 2: override ended",
        "limit 2 -> 0: paused by ana",
    ]
