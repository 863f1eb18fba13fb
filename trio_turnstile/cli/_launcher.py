"""Starting processes, even where file descriptors, processes or threads run short.

A resource that is short comes back when something that runs has ended. So whoever needs the
resource waits and tries again, clean-ups first: an input is not to blame for the shortage, and
a clean-up must not be lost. Deadlock is impossible. An operation takes the pipes of an attempt
before the attempt begins and gives them back at its end, and in between it waits only for its
own commands. A reserve provides the files that starting a command needs for a moment.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from tempfile import TemporaryFile
from typing import IO, TypeVar, final

import trio
from trio.lowlevel import checkpoint

from ._output import Pipe
from ._part import Part
from ._spool import LACKS
from ._threads import lacks_thread

T = TypeVar("T")

_RESERVE = 8
"""How many files are kept open as a reserve: starting a command takes three for a moment."""

_PAUSES = (0.01, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0)
"""Seconds between attempts while nothing runs that could give something back.

Their sum exceeds the time that trio keeps an idle thread, which counts as a process.
"""

_THREADS = 2
"""How many threads start commands: more would not be faster."""

_MORE_PAUSES = (4.0,) * 15
"""Further pauses for a clean-up, which has only one attempt."""

_LOOK_AGAIN = 1.0
"""The most seconds between attempts: other programs give something back as well."""

_STARTS_LEFT = 2.0
"""How long, in seconds, `kill_all` waits for commands that are just being started."""


@final
class Launcher:
    """Starts the commands of a run, and keeps track of those that run.

    Args:
      note: shows a line to the user.
      shell: runs the commands.
    """

    def __init__(self, note: Callable[[str], object], shell: str = "/bin/sh") -> None:
        self._note = note
        self._shell = shell
        self._noted: set[int | None] = set()
        self._running: set[int] = set()
        self._starting: set[object] = set()  # threads may change a set at the same time
        self._holders = 0
        self._waiting_cleanups: set[object] = set()
        self._closed = False
        self._freed = trio.lowlevel.ParkingLot()
        self._threads = trio.CapacityLimiter(_THREADS)
        self._reserve: list[int] = []
        self._fill_reserve()

    async def open_streams(
        self, streams: list[Pipe], make: Callable[[], Iterable[Pipe]], *, cleanup: bool = False
    ) -> None:
        """Open the pipes of two streams.

        Args:
          streams: the streams, or an empty list.
          make: makes them if the list is empty.
          cleanup: whether they are for a clean-up, which comes before others.

        Raises:
          OSError: if there are no files for them, and nothing runs that could give some back.
        """
        if _are_open(streams):
            return await checkpoint()
        opening = partial(_open, streams, make)
        await self._when_possible(opening, lambda: self._holders, cleanup=cleanup)
        self._holders += 1

    def close_streams(self, streams: Sequence[Pipe], leave: Callable[[int], object]) -> None:
        """Close the pipes of streams, if they are open."""
        self._holders -= _are_open(streams)
        for stream in streams:
            stream.close_pipe(leave)
        self._freed.unpark_all()

    async def start(
        self,
        command: str,
        *,
        streams: Sequence[Pipe],
        env: Mapping[str, str],
        stdin: bytes | Part | None = None,
        cleanup: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a command with the shell, as a session leader; `ended` must follow.

        Raises:
          OSError: if it cannot be started.
        """
        popen = partial(open_shell, command, streams, env, self._shell, stdin)
        return await self._when_possible(
            partial(self._start, popen), lambda: self._running or self._starting, cleanup=cleanup
        )

    def ended(self, process: subprocess.Popen[bytes]) -> None:
        """Take note that a process has ended, or was given up."""
        self._running.discard(process.pid)
        self._freed.unpark_all()
        self.reap_orphans()

    def reap_orphans(self) -> None:
        """Reap children that have ended and that we did not start.

        If we are process 1, as in a container, we inherit all orphans. They stay zombies until
        we wait for them.
        """
        while not self._starting and hasattr(os, "waitid"):
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in self._running:
                return
            with suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)

    def kill_all(self) -> None:
        """Kill the running commands with their process groups, and start no more."""
        self._closed = True
        deadline = time.monotonic() + _STARTS_LEFT
        while self._starting and time.monotonic() < deadline:
            time.sleep(0.005)  # this is a signal handler; the threads go on
        for pid in [*self._running]:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """Give the reserve back."""
        while self._reserve:
            os.close(self._reserve.pop())

    async def _start(self, popen: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        try:
            return await trio.to_thread.run_sync(self._popen, popen, limiter=self._threads)
        except RuntimeError as error:
            if not lacks_thread(error):
                raise
        except OSError as error:
            if error.errno not in LACKS:
                raise
        # Not in a thread: so nobody else takes the files from the reserve, and a thread counts
        # as a process.
        with self._reserve_given():
            return self._popen(popen)

    def _popen(self, popen: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        ticket = object()
        self._starting.add(ticket)
        try:
            if self._closed:
                raise InterruptedError(errno.EINTR, "the run is being killed")
            process = popen()
            self._running.add(process.pid)
        finally:
            self._starting.discard(ticket)
        return process

    async def _when_possible(
        self, attempt: Callable[[], Awaitable[T]], is_busy: Callable[[], object], *, cleanup: bool
    ) -> T:
        pauses = iter(_PAUSES + cleanup * _MORE_PAUSES)
        ticket = object() if cleanup else None
        try:
            while True:
                while self._waiting_cleanups and ticket is None:
                    await self._freed.park()
                try:
                    return await attempt()
                except OSError as error:
                    if error.errno not in LACKS:
                        raise
                    # While others run, one of them will give something back. Otherwise other
                    # programs have taken everything, or the limits of the system are too low.
                    pause = _LOOK_AGAIN if is_busy() else next(pauses, None)
                    if pause is None:
                        raise
                    self._tell(error)
                if ticket is not None:
                    self._waiting_cleanups.add(ticket)
                with trio.move_on_after(pause):
                    await self._freed.park()
        finally:
            if ticket in self._waiting_cleanups:
                self._waiting_cleanups.discard(ticket)
                self._freed.unpark_all()

    def _tell(self, error: OSError) -> None:
        if error.errno not in self._noted:
            self._noted.add(error.errno)
            self._note(f"delaying commands because the system is short: {error.strerror}")

    @contextmanager
    def _reserve_given(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._fill_reserve()

    def _fill_reserve(self) -> None:
        with suppress(OSError):
            while len(self._reserve) < _RESERVE:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY))


def open_shell(
    command: str,
    streams: Sequence[Pipe],
    env: Mapping[str, str],
    shell: str,
    stdin: bytes | Part | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in its own session."""
    with _standard_input(stdin) as file:
        return subprocess.Popen(
            [shell, "-c", command],
            stdin=file,
            stdout=streams[0].write_end,
            stderr=streams[1].write_end,
            env=env,
            start_new_session=True,
        )


@contextmanager
def _standard_input(data: bytes | Part | None) -> Iterator[IO[bytes] | int]:
    """Open the standard input of a command: nothing, or a file that vanishes when it is closed.

    A pipe would need a writer for as long as the command runs.
    """
    if data is None:
        yield subprocess.DEVNULL
        return
    if isinstance(data, Part):
        with data.opened() as pipe:
            yield pipe
        return
    with TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


async def _open(streams: list[Pipe], make: Callable[[], Iterable[Pipe]]) -> None:
    if not streams:
        return streams.extend(make())
    try:
        for stream in streams:
            stream.open_pipe()
    except OSError:
        for stream in streams:
            stream.close_pipe()
        raise


def _are_open(streams: Sequence[Pipe]) -> bool:
    return any(stream.write_end >= 0 for stream in streams)
