"""The output of commands: collected for each operation, and printed in one piece.

A command writes into pipes. Files would be simpler, but a command that opens
``/dev/stderr`` would truncate such a file. What comes out of a pipe is kept in memory,
or in a temporary file if there is much of it.

Printing waits for the reader of our output, for example a pager, so it has a task and a
thread of its own. No operation starts while much output waits to be printed: that is the
back-pressure from the reader to the commands.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar, final

import trio
from trio.lowlevel import checkpoint

from ._spool import Spool
from ._threads import in_thread

T = TypeVar("T")

MOST_WAITING = 32
"""While the output of so many operations waits to be printed, no operation starts."""


@final
class Stream:
    """One output stream of an operation: a pipe to write to, and what came out of it.

    Raises:
      OSError: if there are no file descriptors for the pipe.
    """

    def __init__(self) -> None:
        self._spool = Spool()
        self._failed = False
        self._error: OSError | None = None  # why, until somebody is told
        self._read_end = self.write_end = -1
        self.open_pipe()

    @property
    def size(self) -> int:
        """How many bytes were collected."""
        return self._spool.size

    def open_pipe(self) -> None:
        """Open the pipe, unless it is open."""
        if self._read_end < 0:
            self._read_end, self.write_end = os.pipe()
            os.set_blocking(self._read_end, False)

    async def collect(self) -> None:
        """Collect what is written, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._read_end)
            self.take_in()

    def take_in(self) -> bool:
        """Collect what is in the pipe now; return whether anybody can still write to it."""
        # One read, of more than a pipe holds. With a fast writer, a loop might never end.
        with suppress(BlockingIOError):
            data = os.read(self._read_end, 1 << 20)
            self._keep(data)
            return bool(data)
        return True

    def check(self) -> None:
        """Raise an `OSError` if some output could not be kept and nobody was told so far."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def last_byte(self) -> bytes:
        """Return the last byte that was collected, if there is one."""
        return b"".join(self._spool.read(max(self.size - 1, 0)))

    def clear(self) -> None:
        """Drop what was collected."""
        self._spool.clear()
        self._failed, self._error = False, None

    def copy_to(self, fd: int) -> None:
        """Write all that was collected to ``fd``. Blocks as long as that takes."""
        for data in self._spool.read():
            write_all(fd, data)

    def close_pipe(self, leave: Callable[[int], object] = os.close) -> None:
        """Close the pipe, and keep what was collected.

        Args:
          leave: gets the read end if a process in the background still has the other.
        """
        if self._read_end < 0:
            return
        os.close(self.write_end)
        (leave if self.take_in() else os.close)(self._read_end)
        self._read_end = self.write_end = -1

    def close(self) -> None:
        """Drop what was collected, with its temporary file."""
        self._spool.close()

    def _keep(self, data: bytes) -> None:
        if self._failed:
            return
        try:
            self._spool.write(data)
        except OSError as error:  # a full disk; the command should not stop half-way for it
            self._failed, self._error = True, error


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, even if another process has made ``fd`` non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


class Screen(Protocol):
    """Something that draws at the bottom of the terminal and must give way to output."""

    def hide(self) -> None:
        """Draw nothing until `show`, as others write to the terminal."""

    def flush(self) -> None:
        """Wait until it is hidden."""

    def show(self, *, mid_line: bool) -> None:
        """Draw again; ``mid_line`` says whether others have left a line unfinished."""


@final
class Printer:
    """Prints the outputs of operations, one operation at a time.

    Args:
      screen: is hidden while output is printed.
    """

    def __init__(self, screen: Screen) -> None:
        self.ended = trio.Event()
        """Set by `end`."""
        self._screen = screen
        self._lost = False
        self._put, self._waiting = trio.open_memory_channel[Sequence[Stream]](math.inf)
        self._room = trio.lowlevel.ParkingLot()

    async def wait_for_room(self) -> None:
        """Wait until less than `MOST_WAITING` outputs wait to be printed."""
        await checkpoint()
        while self._put.statistics().current_buffer_used >= MOST_WAITING:
            await self._room.park()

    def put(self, streams: Sequence[Stream]) -> None:
        """Have two streams, standard output and standard error, printed and closed."""
        if any(stream.size for stream in streams):
            self._put.send_nowait(streams)
        else:
            _close(streams)

    def end(self) -> None:
        """Let `run` return once everything is printed."""
        self._put.close()
        self.ended.set()

    async def run(self, on_lost: Callable[[OSError], object]) -> None:
        """Print until `end` is called and nothing is left.

        Args:
          on_lost: called once, with the reason, if standard output takes no more. The rest
            of standard output is dropped; standard error is still printed.

        Cancellation:
          What has not been printed is dropped.
        """
        try:
            async for streams in self._waiting:
                self._room.unpark()
                mid_line = _stops_in_mid_line(streams)
                self._screen.hide()
                await self._print(streams, on_lost)
                self._screen.show(mid_line=mid_line)
        finally:
            for streams in _left_in(self._waiting):
                _close(streams)

    async def _print(self, streams: Sequence[Stream], on_lost: Callable[[OSError], object]) -> None:
        error = await in_thread(_print, streams, self._lost, self._screen.flush)
        if error is not None:
            self._lost = True
            on_lost(error)


def _print(
    streams: Sequence[Stream], stderr_only: bool, clear_screen: Callable[[], object]
) -> OSError | None:
    lost: OSError | None = None
    if any(stream.size and os.isatty(fd) for fd, stream in enumerate(streams, 1)):
        clear_screen()
    try:
        if not stderr_only:
            streams[0].copy_to(1)
    except OSError as error:
        lost = error
    with suppress(OSError):  # there is no place left to report it
        streams[1].copy_to(2)
    _close(streams)
    return lost


def _close(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.close()


def _left_in(channel: trio.MemoryReceiveChannel[T]) -> Iterator[T]:
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            yield channel.receive_nowait()


def _stops_in_mid_line(streams: Sequence[Stream]) -> bool:
    shown = [stream for fd, stream in enumerate(streams, 1) if stream.size and os.isatty(fd)]
    return bool(shown) and shown[-1].last_byte() != b"\n"
