"""`Spool`: collects bytes in memory, or in a temporary file if there are many."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from tempfile import TemporaryFile, gettempdir
from typing import IO, final

KEPT_IN_MEMORY = 1 << 18
"""How many bytes to keep in memory; the rest goes to a temporary file."""

LACKS = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""The errors of a system that is short of something for a while."""

CHUNK = 1 << 16
"""How many bytes to read at a time."""


@final
class Spool:
    """Bytes in the order in which they were written.

    The file is not buffered: with a buffer, a full disk would show only when the buffer is
    flushed, long after `write` has returned.
    """

    def __init__(self) -> None:
        self._memory = bytearray()
        self._most = KEPT_IN_MEMORY
        self._file: IO[bytes] | None = None
        self._in_file = 0

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return self._in_file + len(self._memory)

    def write(self, data: bytes) -> None:
        """Add ``data``, either all of it or nothing.

        Raises:
          OSError: if it cannot be kept.
        """
        if len(self._memory) + len(data) > self._most:
            self._make_room()
        if self._file is None:
            self._memory += data
            return
        write_at(self._file.fileno(), data, self._in_file)
        self._in_file += len(data)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end``, in pieces.

        A thread may read while another one writes.
        """
        end = self.size if end is None else end
        while start < end:
            piece = self._piece(start, min(CHUNK, end - start))
            yield piece
            start += len(piece)

    def clear(self) -> None:
        """Drop all bytes."""
        self._memory.clear()
        self._in_file = 0
        if self._file is not None:
            os.truncate(self._file.fileno(), 0)

    def close(self) -> None:
        """Drop all bytes, and the file."""
        self._memory.clear()
        if self._file is not None:
            self._file.close()

    def _piece(self, start: int, size: int) -> bytes:
        memory = self._memory  # first, as it may move to the file meanwhile
        if self._file is None:
            return bytes(memory[start : start + size])
        return read_piece(self._file.fileno(), size, start)

    def _make_room(self) -> None:
        try:
            self._move_to_file()
        except OSError as error:
            if error.errno not in LACKS:
                raise OSError(error.errno, f"its output cannot be kept: {_why(error)}") from None
            self._most *= 2  # no file can be opened now, so use more memory

    def _move_to_file(self) -> None:
        if self._file is None:
            file = TemporaryFile(buffering=0)  # noqa: SIM115 (see `close`)
            try:
                write_at(file.fileno(), self._memory, 0)
            except OSError:
                file.close()
                raise
            self._file, self._in_file = file, len(self._memory)
            self._memory = bytearray()


def read_piece(fd: int, size: int, position: int) -> bytes:
    """Read from a file at a position where something was written.

    Raises:
      OSError: if the file cannot be read, or is shorter.
    """
    piece = os.pread(fd, size, position)
    if not piece:
        raise OSError(errno.EIO, "a temporary file has lost its content")
    return piece


def write_at(fd: int, data: bytes | bytearray, position: int) -> None:
    """Write all of ``data`` to a file at a position.

    Raises:
      OSError: if it cannot be written.
    """
    rest = memoryview(data)
    try:
        while rest:
            written = os.pwrite(fd, rest, position)
            rest, position = rest[written:], position + written
    except OSError as error:
        raise OSError(error.errno, f"its output cannot be kept: {_why(error)}") from None
    finally:
        rest.release()


def _why(error: OSError) -> str:
    try:
        return f"{error.strerror} in {gettempdir()!r}"
    except OSError:  # no temporary folder can be written to
        return str(error.strerror)
