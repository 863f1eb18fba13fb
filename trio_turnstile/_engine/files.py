"""Files that are added to line by line, or read as their bytes come. For worker threads."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from os import PathLike
from typing import final

READ_AT_ONCE = 65_536
"""The most bytes that are read at once."""


def _is_regular(path: str | PathLike[str]) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 (a path may be a text)
    except FileNotFoundError:
        return True


@final
class Appender:
    """A file that whole lines are added to; made in a thread, because opening may block.

    Nothing is buffered here, so nothing is written later.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: PTH123, SIM115
        self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        self._torn = self._regular and _ends_amid_a_line(path)

    def append(self, data: bytes) -> None:
        """Add lines, whole or not at all.

        Raises:
          OSError: if they cannot be written.
        """
        if self._torn:  # a line that another program left unfinished stays a line of its own
            self._write(b"\n")
            self._torn = False
        self._write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        begin, written = self._size(), 0
        try:
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError:
            if written:
                self._take_back(begin, written)
            raise

    def _take_back(self, begin: int, written: int) -> None:
        """Cut off a torn line, unless somebody else has added to it."""
        self._torn = True
        if self._regular and self._size() == begin + written:
            with suppress(OSError):
                self._file.truncate(begin)
                self._torn = False

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size


def append_once(path: str | PathLike[str], data: bytes) -> None:
    """Add lines to a file, whole or not at all; the file is opened and closed for that."""
    file = Appender(path)
    try:
        file.append(data)
    finally:
        file.close()


def _ends_amid_a_line(path: str | PathLike[str]) -> bool:
    with suppress(PermissionError), open(path, "rb") as file:  # noqa: PTH123 (it may be unreadable)
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False


@final
class Chunks:
    """A file that is read as its bytes come.

    A read of a pipe may last for ever, so a cancelled reader leaves its thread behind. The
    file is closed by whoever is the last to use it.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = path
        self._file: int | None = None
        self._turn = threading.Lock()
        self._reading = self._closed = False
        self.may_block = not _is_regular(path)
        """Whether to abandon the thread of a cancelled read, as for a pipe or a terminal."""

    def read(self) -> bytes:
        """Return the next bytes, at least one; empty at the end."""
        with self._turn:
            self._reading = True
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return os.read(self._file, READ_AT_ONCE)
        finally:
            with self._turn:
                self._reading = False
                if self._closed:
                    self._close()

    def close(self) -> None:
        """Close the file, now or when the read that is under way has ended."""
        with self._turn:
            self._closed = True
            if not self._reading:
                self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
