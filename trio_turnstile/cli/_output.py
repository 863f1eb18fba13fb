"""The output of commands, collected for each operation.

A command writes into pipes. Files would be simpler, but a command that opens
``/dev/stderr`` would truncate such a file. The bytes from a pipe are kept in memory, or in a
temporary file if there are many.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol, final

import trio

from ._spool import Spool


class Pipe(Protocol):
    """A pipe for the standard output or the standard error of a command."""

    write_end: int
    """The descriptor to write to; -1 while it is closed."""

    @property
    def size(self) -> int:
        """How many bytes were collected."""
        ...

    def open_pipe(self) -> None:
        """Open the pipe, unless it is open."""

    async def collect(self) -> None:
        """Collect the bytes that are written, until cancelled."""

    def take_in(self) -> object:
        """Collect the bytes that are in the pipe now."""

    def check(self) -> None:
        """Raise an `OSError` if some output could not be kept, unless it was raised before."""

    def clear(self) -> None:
        """Forget the collected bytes, as another attempt follows."""

    def close_pipe(self, leave: Callable[[int], object] = os.close) -> None:
        """Close the pipe, and keep the collected bytes.

        Args:
          leave: gets the read end if a process in the background still has the write end.
        """


@final
class Stream:
    """One output stream of an operation: a pipe to write to, and the bytes that came out.

    Args:
      on_lines: called with this stream when there are more whole lines, for output that is
        printed as it comes; ``None`` to print it at the end.
      copy: a file to write the output to as well, as it comes.

    Raises:
      OSError: if there are no file descriptors for the pipe.
    """

    def __init__(
        self,
        on_lines: Callable[[Stream], object] | None = None,
        copy: Path | None = None,
    ) -> None:
        self._spool = Spool()
        self._copy, self._copy_fd = copy, -1
        self._on_lines = on_lines
        self._size = self._printed = self._lines_end = 0
        self._failed = False
        self._error: OSError | None = None  # why, until somebody is told
        self._read_end = self.write_end = -1
        self.open_pipe()

    @property
    def size(self) -> int:
        """How many bytes were collected."""
        return self._size

    @property
    def left(self) -> int:
        """How many of the collected bytes are not printed."""
        return self._spool.size - self._printed

    @property
    def lines_end(self) -> int:
        """The end of the last whole line; 0 if all whole lines are printed."""
        return self._lines_end

    def open_pipe(self) -> None:
        """Open the pipe, unless it is open."""
        if self._read_end >= 0:
            return
        if self._copy is not None:
            self._copy_fd = os.open(self._copy, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            self._read_end, self.write_end = os.pipe()
        except OSError:
            self._close_copy()
            raise
        os.set_blocking(self._read_end, False)

    async def collect(self) -> None:
        """Collect the bytes that are written, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._read_end)
            self.take_in()

    def add(self, data: bytes) -> None:
        """Collect bytes that did not come through the pipe."""
        self._keep(data)

    def take_in(self) -> bool:
        """Collect the bytes in the pipe now; return whether anybody can still write to it."""
        # One read, of more than a pipe holds: with a fast writer, a loop might never end.
        with suppress(BlockingIOError):
            data = os.read(self._read_end, 1 << 20)
            self._keep(data)
            return bool(data)
        return True

    def check(self) -> None:
        """Raise an `OSError` if some output could not be kept, unless it was raised before."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def last_byte(self) -> bytes:
        """Return the last byte that was collected, if there is one."""
        return b"".join(self._spool.read(max(self._spool.size - 1, self._printed)))

    def clear(self) -> None:
        """Drop the collected bytes, unless they are printed as they come."""
        if self._on_lines is None:
            self._spool.clear()
        if self._copy_fd >= 0:
            os.truncate(self._copy_fd, 0)
        self._size = 0
        self._failed, self._error = False, None

    def pieces(self, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes that are not printed, up to ``end``, in pieces."""
        yield from self._spool.read(self._printed, end)

    def mark_printed(self, end: int) -> None:
        """Take note that everything up to ``end`` is printed."""
        self._printed = end
        if self._lines_end == end:
            self._lines_end = 0
        if not self.left:  # otherwise the file of an endless operation would grow for ever
            self._spool.clear()
            self._printed = 0

    def close_pipe(self, leave: Callable[[int], object] = os.close) -> None:
        """Close the pipe, and keep the collected bytes.

        Args:
          leave: gets the read end if a process in the background still has the write end.
        """
        if self._read_end < 0:
            return
        os.close(self.write_end)
        (leave if self.take_in() else os.close)(self._read_end)
        self._close_copy()
        self._read_end = self.write_end = -1

    def close(self) -> None:
        """Drop the collected bytes, and the temporary file."""
        self._spool.close()

    def _close_copy(self) -> None:
        if self._copy_fd >= 0:
            os.close(self._copy_fd)
            self._copy_fd = -1

    def _keep(self, data: bytes) -> None:
        if self._failed:
            return
        try:
            self._spool.write(data)
            if self._copy_fd >= 0:
                write_all(self._copy_fd, data)
        except OSError as error:  # a full disk, which should not stop the command half-way
            self._failed, self._error = True, error
            return
        self._size += len(data)
        if self._on_lines is not None and (newline := data.rfind(b"\n") + 1):
            self._lines_end = self._spool.size - len(data) + newline
            self._on_lines(self)


@final
class OwnDescriptor:
    """One of our own standard streams, as a pipe that nothing is collected from.

    Args:
      fd: its descriptor.
    """

    size = 0

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.write_end = fd

    def open_pipe(self) -> None:
        """Allow commands to write again."""
        self.write_end = self._fd

    async def collect(self) -> None:
        """Wait until cancelled."""
        await trio.sleep_forever()

    def take_in(self) -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""

    def clear(self) -> None:
        """Do nothing: output that was written cannot be taken back."""

    def close_pipe(self, leave: Callable[[int], object] = os.close) -> None:
        """Allow no more commands to write; the descriptor stays open."""
        self.write_end = -1


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, even if another process has made ``fd`` non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])
