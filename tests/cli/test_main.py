"""The program: how it starts, and what it prints if it cannot start."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trio_turnstile.cli import main

Call = Callable[..., Any]


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make Python forget the modules of the command, so that they are imported again."""
    for name in [*sys.modules]:
        if name.startswith("trio_turnstile.cli."):
            monkeypatch.delitem(sys.modules, name)
    return monkeypatch


@pytest.mark.parametrize("package", ["cyclopts", "rich"])
def test_without_the_extra_it_says_so(
    package: str, call: Call, forgotten: pytest.MonkeyPatch
) -> None:
    """The exit status is 2, and the message says what to install."""
    for name in [*sys.modules]:
        if name.startswith(f"{package}."):
            forgotten.delitem(sys.modules, name)
    forgotten.setitem(sys.modules, package, None)
    result = call("run", "--work", "true")
    assert (result.status, result.out) == (2, "")
    assert result.err == f"turnstile: {package} is missing; pip install 'trio-turnstile[cli]'\n"


def test_anything_else_that_is_missing_is_a_fault(forgotten: pytest.MonkeyPatch) -> None:
    """A missing module of our own is a bug and raises."""
    forgotten.setitem(sys.modules, "trio_turnstile.cli._run", None)
    with pytest.raises(ModuleNotFoundError, match="_run"):
        main([])


def test_a_system_without_a_posix_shell_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is 2, and the message says that the command needs POSIX."""
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_info:
        patch.setattr(os, "name", "nt")
        main([])
    assert exit_info.value.code == 2
    assert "POSIX" in capsys.readouterr().err


def test_it_runs_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """``python -m trio_turnstile.cli`` takes the arguments of the command line."""
    monkeypatch.setattr(sys, "argv", ["turnstile", "run", "--work", "echo", "--", "a"])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_module("trio_turnstile.cli", run_name="__main__")
    assert (exit_info.value.code, capfd.readouterr().out) == (0, "a\n")


def test_a_closed_standard_stream_is_not_taken_for_a_file(call: Call, here: Path) -> None:
    """With standard input closed, the job log does not become descriptor 0."""
    result = call("run", "--joblog", "log", "--work", "echo", stdin=-1)
    assert (result.status, result.out) == (0, "")
    assert "0 completed" in result.err


def test_an_interrupt_outside_of_a_run_has_its_status_too(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the program starts exits with 130."""

    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_turnstile.cli._app.launch", interrupted)
    assert call("run", "--work", "true").status == 130


def test_a_signal_to_retune_never_ends_the_program(call: Call) -> None:
    """SIGUSR1 and SIGUSR2 are harmless before a run has begun and after it has ended."""
    call("--version")
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)


@pytest.mark.parametrize("arguments", [["run", "--help"], ["--help"], [], ["--version"]])
def test_help_is_no_failure(arguments: list[str], call: Call) -> None:
    """Help goes to standard output with exit status 0."""
    result = call(*arguments)
    assert (result.status, result.err) == (0, "")
    assert result.out


def test_the_help_tells_what_an_operator_needs_to_know(call: Call) -> None:
    """The help names the signals, exit statuses, placeholders and variables."""
    text = call("run", "--help").out
    for word in ("SIGUSR1", "SIGUSR2", "Ctrl-C", "exit status", "{//}", "TURNSTILE_INPUT", "--max"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run"], "--work"),
        (["run", "--work", "x", "--bogus"], "--bogus"),
        (["walk"], "walk"),
        (["walk", "--", "far"], "walk"),
        (["--"], "--"),
        (["run", "--work", ""], "--work: a command must not be blank"),
        (["run", "--work", "x", "--cleanup", "rm '{}'"], "--cleanup: {} is in quotes"),
        (["run", "--work", "x", "--hold", "soon"], "--hold"),
        (["run", "--work", "x", "--halt", "soon"], "--halt: it must be never, or like soon,fail=3"),
        (["run", "--work", "x", "--halt", "now,fail=0"], "--halt: fail must be at least 1"),
        (["run", "--work", "x", "--limit", "0"], "--limit"),
        (["run", "--work", "x", "--limit", "many"], "--limit"),
        (["run", "--work", "x", "--retries", "-1"], "--retries"),
        (["run", "--work", "x", "--timeout", "0"], "--timeout"),
        (["run", "--work", "x", "--min", "5"], "--limit must be from --min, 5, to --max, 4, not 4"),
        (["run", "--work", "x", "--max", "3"], "--limit must be from --min, 1, to --max, 3, not 4"),
        (["run", "--work", "x", "-a", "gone"], "--arg-file: cannot read 'gone'"),
    ],
)
def test_wrong_options_are_refused(
    arguments: list[str], complaint: str, call: Call, here: Path
) -> None:
    """A wrong option exits with 2 and a hint, before anything runs."""
    result = call(*arguments, stdin=b"ran\n")
    assert (result.status, result.out) == (2, "")
    assert complaint in result.err
    assert result.err.startswith("turnstile: ")
    assert result.err.endswith("For help: turnstile run --help\n")
