"""``turnstile top`` in a terminal, with real processes."""

from __future__ import annotations

import os
import re
import signal
import termios
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

OWN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "from trio_turnstile.cli import main; main(sys.argv[1:])"
)

ENTERED, LEFT = "\x1b[?1049h", "\x1b[?1049l"
"""What takes the whole screen, and gives it back."""


@pytest.fixture(autouse=True)
def _colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "LC_ALL", "LC_CTYPE", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("TERM", "xterm-256color")


def start_run(spawn: Any, gate: Any, *options: object) -> Any:
    run = spawn("run", "-j2", "--hold", 0, "--max", 4, *options, "--work", gate.wait, "--", *"abcd")
    gate.arrivals(2)
    return run


def start_top(spawn: Any, *options: object) -> Any:
    top = spawn("top", *options, options=("-c", OWN_TERMINAL), terminal=True)
    top.watch.err.wait_for("is at its limit of")
    return top


def finish(gate: Any, *runs: Any) -> None:
    gate.let(4 * len(runs))
    for run in runs:
        run.finish()


def quit_(top: Any) -> None:
    top.watch.type("q")
    assert top.finish().status == 0


def is_cooked(top: Any) -> bool:
    flags = termios.tcgetattr(top.watch.keyboard)[3]
    return bool(flags & termios.ICANON and flags & termios.ECHO)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def plain(text: str) -> str:
    """Return what is written without the codes for colours and the like."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)


def test_the_keys_steer_a_run(spawn: Any, gate: Any) -> None:
    """The keys move the limit one step up, pause, and set a typed limit; decisions are shown."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    top.watch.type("+")
    top.watch.err.wait_for("2 to 3: a signal up")
    gate.arrivals(1)
    top.watch.type("p")
    top.watch.err.wait_for("paused until resumed")
    top.watch.type("r")
    top.watch.err.wait_for(": resumed")
    top.watch.type("4")
    top.watch.err.wait_for("set work to 4: Enter sets it")
    top.watch.type("\r")
    top.watch.err.wait_for("3 to 4: set past every rule")
    gate.arrivals(1)
    quit_(top)
    finish(gate, run)


def test_a_run_is_drained_if_that_is_said_twice(spawn: Any, gate: Any) -> None:
    """The view stays open, and shows that the run has ended."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    top.watch.type("d")
    top.watch.err.wait_for("drain run, so that nothing more starts?")
    top.watch.type("y")
    run.watch.err.wait_for("turnstile ctl: starting nothing more")
    top.watch.err.wait_for("draining, ")
    gate.let(2)
    assert run.finish().status == 143
    top.watch.err.wait_for("  ended")
    quit_(top)


def test_the_terminal_is_given_back(spawn: Any, gate: Any) -> None:
    """Screen, cursor and modes of the terminal are restored."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    assert not is_cooked(top)
    top.watch.type("q")
    top.watch.err.wait_for(LEFT)
    top.watch.err.wait_for("\x1b[?25h")
    top.watch.wait_until(lambda: is_cooked(top))
    assert top.finish().status == 0
    finish(gate, run)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_given_back_on_a_stop_signal(
    spawn: Any, gate: Any, signum: signal.Signals
) -> None:
    """The exit status is that of the signal."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    top.watch.signal(signum)
    top.watch.err.wait_for(LEFT)
    top.watch.wait_until(lambda: is_cooked(top))
    assert top.finish().status == 128 + signum
    finish(gate, run)


def test_ctrl_z_stops_it_and_it_goes_on(spawn: Any, gate: Any) -> None:
    """The terminal is restored meanwhile, and taken again afterwards."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    for times in (1, 2):
        top.watch.type("\x1a")
        top.watch.wait_until(lambda: is_stopped(top.watch.pid))
        top.watch.err.wait_for(LEFT, times)
        assert is_cooked(top)
        top.watch.signal(signal.SIGCONT)
        top.watch.err.wait_for(ENTERED, times + 1)
        top.watch.wait_until(lambda: not is_cooked(top))
    top.watch.type("+")
    top.watch.err.wait_for("2 to 3: a signal up")
    quit_(top)
    finish(gate, run)


def test_it_follows_the_size_of_the_terminal(spawn: Any, gate: Any) -> None:
    """Lines fit the width of the terminal; on a narrow one, the list of keys is shorter."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    termios.tcsetwinsize(top.watch.keyboard, (12, 40))
    top.watch.signal(signal.SIGWINCH)
    top.watch.err.wait_for("+ - 0-9 p r d  arrows  q quit")
    quit_(top)
    finish(gate, run)


def test_several_processes_are_in_one_view(spawn: Any, gate: Any) -> None:
    """This includes one that starts later; the keys act on the marked one."""
    first = start_run(spawn, gate)
    top = start_top(spawn)
    second = start_run(spawn, gate)

    def shows_both() -> bool:
        last = plain(top.watch.err.so_far).rpartition(f" {first.watch.pid} ")[2]
        return f" {second.watch.pid} " in last and last.count("limited by: work") == 2

    top.watch.wait_until(shows_both)
    top.watch.type("+j+")
    top.watch.wait_until(lambda: all("limit 2 -> 3" in r.watch.err.so_far for r in (first, second)))
    quit_(top)
    finish(gate, first, second)


def test_one_process_can_be_chosen(spawn: Any, gate: Any) -> None:
    """It is chosen by its process ID."""
    runs = [start_run(spawn, gate), start_run(spawn, gate)]
    top = start_top(spawn, "--pid", runs[0].watch.pid)
    quit_(top)
    text = plain(top.watch.err.all())
    assert f" {runs[0].watch.pid}  " in text
    assert f" {runs[1].watch.pid}  " not in text
    finish(gate, *runs)


def test_no_colour_where_none_is_wanted(
    spawn: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With NO_COLOR, only bold and reverse are used."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m", top.watch.err.so_far)
    quit_(top)
    monkeypatch.setenv("NO_COLOR", "1")
    top = start_top(spawn)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", top.watch.err.so_far)
    quit_(top)
    finish(gate, run)


def test_ascii_alone_in_an_ascii_locale(
    spawn: Any, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With LC_ALL=C the bars are ASCII characters."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    top.watch.err.wait_for(" ▅▅")
    quit_(top)
    monkeypatch.setenv("LC_ALL", "C")
    top = start_top(spawn)
    top.watch.err.wait_for(" ++")
    quit_(top)
    assert top.watch.err.all().isascii()
    finish(gate, run)


@pytest.mark.parametrize("terminal", ["dumb", None])
def test_without_a_real_terminal_the_state_is_printed_once(
    spawn: Any, gate: Any, call: Any, monkeypatch: pytest.MonkeyPatch, terminal: str | None
) -> None:
    """This is so for a pipe or a dumb terminal; there are no escape codes."""
    run = start_run(spawn, gate)
    if terminal is None:
        result = call("top")
        text = result.out
    else:
        monkeypatch.setenv("TERM", terminal)
        result = call("top", terminal=True)
        text = result.err
    assert result.status == 0
    assert "limited by: work is at its limit of 2" in text
    assert "work: 4 to 2: the program set it" in text
    assert "\x1b" not in text
    finish(gate, run)


def test_without_a_process_it_says_so(
    call: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit status is 3, with any terminal."""
    monkeypatch.setattr("trio_turnstile.cli._processes._SOON", 0.0)
    result = call("top", terminal=True)
    assert result.status == 3
    assert "nobody answers" in result.err


def test_a_process_that_is_killed_has_ended(spawn: Any, gate: Any) -> None:
    """The view goes on without it."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    run.watch.signal(signal.SIGKILL)
    run.finish()
    top.watch.err.wait_for("  ended")
    quit_(top)
    gate.let(2)


def test_other_keys_and_a_lot_of_them_do_nothing(spawn: Any, gate: Any) -> None:
    """This protects from text that is pasted by accident."""
    run = start_run(spawn, gate)
    top = start_top(spawn)
    os.write(top.watch.keyboard, b"xyz\x1b[5~\x1b[15~\xff\xfe" * 20)
    quit_(top)
    assert "limit 2 ->" not in run.watch.err.so_far
    finish(gate, run)
