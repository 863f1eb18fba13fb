"""One shell command: run in its own process group, and ended with the whole group.

The group is also a session, so a Ctrl-C at the terminal reaches only us, and we can let the
commands finish.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import final

import attrs
import trio

from ._launcher import Launcher
from ._output import Pipe
from ._part import Part
from ._term_seq import TermSeq
from ._time_limit import TimeLimit

_POLL = 0.02
"""Seconds between two checks of whether a process group is gone: there is no event for it."""

_REAP = 5.0
"""Seconds to wait for a process after SIGKILL, which cannot end one that hangs on a dead disk."""


@final
@attrs.frozen
class Exit:
    """How a command ended."""

    returncode: int
    """The exit status; negative for the signal that ended it."""
    timed_out: bool = False
    """Whether it was ended because it took too long."""
    cancelled: bool = False
    """Whether it was ended because the run was cancelled."""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.returncode == 0 and not self.timed_out and not self.cancelled

    @property
    def status(self) -> int:
        """The exit status; 0 if a signal ended the command, -1 if we ended it."""
        return -1 if self.timed_out or self.cancelled else max(self.returncode, 0)

    @property
    def signal(self) -> int:
        """The number of the signal that ended it, or 0."""
        return max(-self.returncode, 0)

    def __str__(self) -> str:
        number = self.returncode
        ending = f"ended by {_name(-number)}" if number < 0 else f"exit status {number}"
        return f"timed out, {ending}" if self.timed_out else ending


@final
class CommandFailed(Exception):
    """A command did not end with exit status 0.

    Args:
      ending: how it ended.
      told: the message, if it says more than ``ending``.
    """

    def __init__(self, ending: Exit, told: str = "") -> None:
        super().__init__(told or str(ending))
        self.ending = ending


async def run_shell(
    command: str,
    *,
    launcher: Launcher,
    streams: Sequence[Pipe],
    env: Mapping[str, str],
    time_limit: TimeLimit,
    term_seq: TermSeq,
    stdin: bytes | Part | None = None,
    cleanup: bool = False,
    on_exit: Callable[[Exit], object] | None = None,
) -> Exit:
    """Run a command with ``/bin/sh`` and wait for its end.

    Processes that it leaves in the background go on running.

    Args:
      command: the command.
      launcher: starts it.
      streams: collect its standard output and its standard error.
      env: its environment.
      time_limit: how long it may take.
      term_seq: the signals that end it.
      stdin: its standard input; ``None`` for nothing.
      cleanup: whether it is a clean-up, which is started before other commands.
      on_exit: called with how it ended, even if it was cancelled.

    Raises:
      OSError: if it cannot be started.

    Cancellation:
      Sends the signals of ``term_seq`` to the process group of the command, and finally
      SIGKILL, as long as a process of the group exists.
    """
    process = await launcher.start(command, streams=streams, env=env, stdin=stdin, cleanup=cleanup)
    late = over = False
    try:
        async with trio.open_nursery() as nursery:
            # Shielded, as a command that is being ended may still write, and block on a full
            # pipe if nobody reads it.
            collecting = trio.CancelScope(shield=True)
            nursery.start_soon(_collect, streams, collecting)
            limit = time_limit.scope()
            try:
                with limit:
                    await _wait(process)
            finally:
                # If we were suspended for a while, we may notice the end of a command only
                # after its time is up, although it may have ended in time.
                over = process.poll() is not None
                late = limit.cancelled_caught and not over
                if not over:
                    await _end_group(process, term_seq)
                collecting.cancel()
    finally:
        launcher.ended(process)
        for stream in streams:
            stream.take_in()
        exit_ = Exit(process.returncode or 0, late, cancelled=not (over or late))
        if on_exit is not None:
            on_exit(exit_)
    return exit_


async def _collect(streams: Sequence[Pipe], scope: trio.CancelScope) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(stream.collect)


async def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, with at most one file and without a thread."""
    with suppress(OSError, AttributeError):  # no file is left, or the system has no pidfds
        fd = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(fd)
        finally:
            os.close(fd)
    pause = _POLL / 16
    while process.poll() is None:
        await trio.sleep(pause)
        pause = min(2 * pause, _POLL)


async def _end_group(process: subprocess.Popen[bytes], term_seq: TermSeq) -> None:
    with trio.CancelScope(shield=True):
        for signum, seconds in term_seq.steps:
            _signal_group(process, signum)
            with trio.move_on_after(seconds):
                return await _wait_for_group(process)
        _signal_group(process, signal.SIGKILL)
        with trio.move_on_after(_REAP):
            await _wait(process)


async def _wait_for_group(process: subprocess.Popen[bytes]) -> None:
    await _wait(process)
    while _signal_group(process, 0):
        _reap_orphans(process)
        await trio.sleep(_POLL)


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> bool:
    """Send a signal to the process's group; return whether the group is still there."""
    try:
        os.killpg(process.pid, signum)
    except (ProcessLookupError, PermissionError):  # the latter for zombies on macOS
        return False
    return True


def _reap_orphans(process: subprocess.Popen[bytes]) -> None:
    # If we are process 1, as in a container, we inherit the orphans of the group. They stay
    # zombies, and the group stays alive, until we wait for them.
    with suppress(ChildProcessError):
        os.waitpid(-process.pid, os.WNOHANG)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
