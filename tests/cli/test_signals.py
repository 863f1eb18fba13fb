"""What the command does about the signals that it inherits, and about early ones."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from typing import Any

import pytest

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


def with_signals(ignored: Collection[int], blocked: Collection[int] = ()) -> Callable[[], None]:
    """Return what sets the signals of a process before the command starts in it."""

    def prepare() -> None:
        for signum in ignored:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)

    return prepare


def test_exit_statuses_are_known_though_the_parent_ignores_its_children(spawn: Any) -> None:
    """A SIGCHLD that is inherited as ignored loses no failure."""
    run = spawn(
        *("run", "-q", "--work", "exit 3; : {}", "--", "a", "b"),
        preexec_fn=with_signals({signal.SIGCHLD}),
    )
    assert run.finish().status == 2


def test_signals_work_though_the_parent_has_blocked_them(spawn: Any, gate: Any) -> None:
    """Blocked signals are unblocked, for the run and for its commands."""
    blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGCHLD, signal.SIGPIPE}
    run = spawn(
        *("run", "-j2", "--work", f"{gate.wait}; kill -TERM $$; echo {{}}", "--", *"ab"),
        preexec_fn=with_signals(set(), blocked),
    )
    gate.arrivals(2)
    run.watch.signal(signal.SIGUSR2)
    run.watch.err.wait_for("limit 2 -> 1")
    run.watch.signal(signal.SIGTERM)
    run.watch.err.wait_for("starting nothing more")
    gate.let(2)
    result = run.finish()
    assert (result.status, result.out) == (2, "")
    assert "ended by SIGTERM" in result.err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_what_was_ignored_stays_ignored(signum: int, spawn: Any, gate: Any) -> None:
    """A job in the background of a script, and its commands, do not hear of a Ctrl-C."""
    work = f"{gate.wait}; kill -{signum} $$; echo {{}}"
    run = spawn("run", "-j1", "--work", work, "--", *"ab", preexec_fn=with_signals({signum}))
    gate.arrivals(1)
    run.watch.signal(signum)
    gate.let(1)
    gate.arrivals(1)
    gate.let(1)
    result = run.finish()
    assert (result.status, result.lines) == (0, ["a", "b"])


IMPORTING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "cyclopts":
            os.kill(os.getpid(), int(sys.argv.pop(1)))

sys.meta_path.insert(0, Finder())
from trio_turnstile.cli import main
main()
"""


@pytest.mark.parametrize(("signum", "status"), STOPS)
def test_a_signal_while_the_program_starts_ends_it_plainly(
    signum: int, status: int, spawn: Any
) -> None:
    """The exit status is that of the signal, and there is no traceback."""
    run = spawn(str(int(signum)), "run", "--work", "echo", "--", "a", options=("-c", IMPORTING))
    result = run.finish()
    assert (result.status, result.out, result.err) == (status, "", "")


LATE = """
import os, signal, sys
from trio_turnstile.cli import _run_plan, main
conclude = _run_plan._conclude

def late(*args, **more):
    os.kill(os.getpid(), signal.SIGINT)
    return conclude(*args, **more)

_run_plan._conclude = late
main()
"""


def test_a_signal_after_the_run_does_not_change_its_exit_status(spawn: Any) -> None:
    """A Ctrl-C while the summary is written comes too late."""
    result = spawn("run", "--work", "exit 1; : {}", "--", "a", "b", options=("-c", LATE)).finish()
    assert result.status == 2
    assert "0 completed, 2 failed" in result.err


EXITING = """
import atexit, os, signal
from trio_turnstile.cli import main
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
main()
"""


def test_a_signal_while_the_program_exits_does_not_change_its_exit_status(spawn: Any) -> None:
    """Python takes its handlers away before the process ends."""
    run = spawn("run", "-q", "--work", "exit 1; : {}", "--", "a", "b", options=("-c", EXITING))
    assert run.finish().status == 2
