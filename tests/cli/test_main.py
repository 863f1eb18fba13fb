"""The program: how it starts, and what it prints if it cannot start."""

from __future__ import annotations

import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import trio_turnstile
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
    forgotten.delitem(sys.modules, "trio_turnstile.cli._app", raising=False)
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

    monkeypatch.setattr(import_module("trio_turnstile.cli._app"), "launch", interrupted)
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
        (["run", "--work", "x", "--limit", "0%"], "--limit"),
        (["run", "--work", "x", "--limit", "many"], "--limit"),
        (["run", "--work", "x", "--retries", "-1"], "--retries"),
        (["run", "--work", "x", "--timeout", "0"], "--timeout"),
        (["run", "--work", "x", "-j4", "--min", "5"], "from --min, 5, to --max, 4, not 4"),
        (
            ["run", "--work", "x", "-j4", "--max", "3"],
            "--limit must be from --min, 1, to --max, 3, not 4",
        ),
        (["run", "--work", "x", "-a", "gone"], "cannot read 'gone': No such file or directory"),
        (["run", "--work", "x", "-a", "/"], "--arg-file: cannot read '/': Is a directory"),
        (["run"], "--work is missing: the command to run for each input"),
        (["run", "--work", "x", ":::+", "a"], ":::+ links to the source before it, but there"),
        (["run", "--work", "x", "::::"], ":::: needs names of files"),
        (["run", "--work", "x", "a", ":::", "b"], "give inputs before -- or after :::, not both"),
        (["run", "--work", "x", "::::", "-", "-"], "only one of the sources can be standard input"),
        (["run", "--work", "x", "-N2", ":::", "a", ":::", "b"], "neither several sources nor"),
        (["run", "--work", "x {2}", ":::", "a"], "--work: {2} is not a column: inputs have 1"),
        (["run", "--work", "x", "--colsep", "(", "--", "a"], "--colsep: '(' is not a regular expr"),
        (["run", "--work", "x", "--colsep", ",*", "--", "a"], "matches between any two letters"),
        (["run", "--work", "x", "-0", "-d", ";"], "does not go with --null"),
        (["run", "--work", "x", "-d", ""], "--delimiter must not be empty"),
        (["run", "--work", "x", "--header", "--"], "--header: a source needs a first input"),
        (["run", "--work", "x", "--header", "-a", "/dev/null"], "not begin with a line of names"),
        (["run", "--work", "x", "--header", ":::", "a", ":::", "a"], "2 columns are named 'a'"),
        (
            ["run", "--work", "x", "--shell", "fish", "--", "a"],
            "--shell: it must be one of sh,",
        ),
        (["run", "--work", "x", "--shell", "/x/sh", "--", "a"], "--shell: there is no '/x/sh'"),
        (["run", "--work", "x", "a", "--prepare=y"], "'--prepare=y' comes after the input 'a'"),
        (["run", "--work", "x", "a", "-q"], "write the options first, then --, then the inputs"),
        (["run", "--work", "x", "--bo\x1bgus"], "--bo\\x1bgus"),
        (["run", "--bar", "--work", "x", "--", "a"], "Unknown option: --bar"),
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
    command = "run --help" if arguments[0] == "run" else "--help"
    assert result.err.endswith(f"For help: turnstile {command}\n")
    assert "\x1b" not in result.err


def test_the_help_that_is_named_is_that_of_the_command(call: Call) -> None:
    """A wrong option of another command does not point to this one."""
    assert call("simulate", "--bogus").err.endswith("For help: turnstile simulate --help\n")


@pytest.mark.parametrize("name", ["--prepare=echo #.txt", "-q", "--prepare"])
def test_a_file_does_not_become_an_option(name: str, call: Call, here: Path) -> None:
    """Where the shell may have put the name of a file, an option needs the ``--``."""
    (here / name).touch()
    options = ("run", "--work", "echo work", name, *(["true"] if name == "--prepare" else []))
    result = call(*options, "a")
    assert (result.status, result.out) == (2, "")
    assert f"{name!r} is an option, but also the name of a file here: write --" in result.err
    assert call(*options, "--", "a").status == 0
    assert call("run", "--work", "echo work", "--", name).lines == [f"work {name}"]


@pytest.mark.parametrize("options", [["-qj", "1"], ["-q0j1"], ["-j", "1", "-q"], ["--limit=1"]])
def test_short_options_may_be_joined(options: list[str], call: Call, here: Path) -> None:
    """The value of the last one is not taken for an input."""
    result = call("run", *options, "--work", "echo", "a", "--", "--work")
    assert (result.status, result.lines) == (0, ["a", "--work"])


def test_by_default_the_limit_is_the_number_of_usable_cores(call: Call, gate: Any) -> None:
    """As with GNU parallel; --max and --min bound it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert cores is not None

    def operate(watch: Any) -> None:
        gate.arrivals(cores)
        watch.signal(signal.SIGUSR2)
        watch.err.wait_for(f"limit {cores} -> ")
        gate.let(cores)

    options = ("--min", "0", "--down", "1", "--work", gate.wait)
    assert call("run", *options, "--", *range(cores), operator=operate).status == 0
    assert call("run", "--max", "1", "--work", "echo", "--", "a").status == 0
    assert call("run", "--min", "99", "--work", "echo", "--", "a").status == 0


def test_a_lack_of_files_for_the_limit_is_told_beforehand(spawn: Any) -> None:
    """If the limit on open files cannot be raised enough, a warning says what will happen."""
    few = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (64, 64))
    run = spawn("run", "-q", "-j", "50", "--work", "echo", "--", "a", preexec_fn=few)
    result = run.finish()
    assert (result.status, result.out) == (0, "a\n")
    assert "--limit 50 needs at least 275 open files, but only 64 are allowed" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_no_fault(
    closed: tuple[int, ...], spawn: Any, here: Path
) -> None:
    """Python starts without a stream for a descriptor that is closed."""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    run = spawn("run", "--work", "echo out; touch ran", "--", "a", preexec_fn=close)
    assert run.finish().status == 0
    assert (here / "ran").exists()
    assert spawn("run", "--help", preexec_fn=close).finish().status == 0
    assert spawn("run", "--bogus", preexec_fn=close).finish().status == 2


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_a_full_device_is_told_without_a_traceback(arguments: list[str], spawn: Any) -> None:
    """Help that cannot be written is a failure with a reason."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no full device")
    with Path("/dev/full").open("w") as full:
        result = spawn(*arguments, stdout=full).finish()
    assert (result.status, result.err) == (1, "turnstile: No space left on device\n")


def test_a_dry_run_onto_a_full_device_blames_no_input(spawn: Any) -> None:
    """The message says that standard output cannot be written."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no full device")
    with Path("/dev/full").open("w") as full:
        result = spawn("run", "--dry-run", "--work", "x", "--", "a", stdout=full).finish()
    assert result.status == 1
    assert result.err == ("turnstile: cannot write to standard output: No space left on device\n")


@pytest.mark.slow
def test_help_can_be_read_in_any_locale(spawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a locale has no letter for is no error."""
    for encoding in ("latin-1", "ascii"):
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        assert spawn("run", "--help").finish().status == 0


def test_the_version_is_told_without_the_parser(spawn: Any) -> None:
    """Neither cyclopts nor rich is imported for it."""
    code = "import sys; sys.modules['cyclopts'] = sys.modules['rich'] = None; "
    code += "from trio_turnstile.cli import main; main()"
    result = spawn("--version", options=("-c", code)).finish()
    assert (result.status, result.out) == (0, f"{trio_turnstile.__version__}\n")


def test_a_run_imports_no_more_than_it_needs(spawn: Any) -> None:
    """The simulation takes long to import; rich is for terminals and help."""
    code = (
        "import atexit, sys; from trio_turnstile.cli import main; "
        "names = ('trio_turnstile.simulation', 'rich.live', 'matplotlib'); "
        "atexit.register(lambda: print(*[n for n in names if n in sys.modules])); main()"
    )
    result = spawn("run", "-q", "--work", "true", "--", "a", options=("-c", code)).finish()
    assert (result.status, result.out) == (0, "\n")
