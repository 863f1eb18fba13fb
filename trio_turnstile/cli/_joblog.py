"""The job log: a line of tab-separated values for each operation, written when it ends.

The columns are those of GNU parallel, so programs that read its logs can read these too. The
command comes last, so it may contain tabs. As in GNU parallel, newlines in it are written as
NULs, so that every entry is one line.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import final

import attrs

from ._output import write_all

COLUMNS = [
    "Seq",
    "Host",
    "Starttime",
    "JobRuntime",
    "Send",
    "Receive",
    "Exitval",
    "Signal",
    "Command",
]


@final
@attrs.frozen(kw_only=True)
class Entry:
    """The entry of one operation."""

    seq: int
    """The number of its input, from 1."""
    host: str = ":"
    """Where it ran: ``:`` for this machine, or a job and its node, as in ``4711@n1``."""
    started: float
    """When its last attempt began, in seconds since 1970."""
    runtime: float
    """How many seconds that attempt took, without the clean-up."""
    sent: int = 0
    """How many bytes it got on its standard input."""
    received: int
    """How many bytes it wrote to its standard output."""
    exitval: int
    """The exit status; -1 if the command was cut off or could not start."""
    signal: int
    """The number of the signal that ended it, or 0."""
    command: str
    """The command of its work phase."""

    def line(self) -> bytes:
        """Return the entry as a line of the log."""
        seq, host, started, runtime, *others = self.fields()
        fields = (seq, host, started, runtime.rjust(10), *others)
        return os.fsencode("\t".join(fields).replace("\n", "\0")) + b"\n"

    def fields(self) -> list[str]:
        """Return the values of the columns."""
        times = (f"{self.started:.3f}", f"{self.runtime:.3f}")
        ending = (self.received, self.exitval, self.signal, self.command)
        return [str(self.seq), self.host, *times, str(self.sent), *map(str, ending)]


@final
class JobLog:
    """A job log in a file. Entries are appended; a new or empty file gets the header first.

    Args:
      path: the file.

    Raises:
      OSError: if the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self._failed = False
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        status = os.fstat(self._fd)
        self._regular = stat.S_ISREG(status.st_mode)
        if not status.st_size:
            self._write("\t".join(COLUMNS).encode() + b"\n")
        elif self._regular and _ends_in_mid_line(path, status.st_size):
            self._write(b"\n")  # an entry that was cut off stays on a line of its own

    def add(self, entry: Entry) -> None:
        """Append an entry, or do nothing if an earlier one could not be written.

        Raises:
          OSError: if it cannot be written.
        """
        if self._failed:
            return
        try:
            self._write(entry.line())
        except OSError:
            self._failed = True
            raise

    def close(self) -> None:
        """Close the file.

        Raises:
          OSError: if the system could not write what it had accepted.
        """
        os.close(self._fd)

    def _write(self, line: bytes) -> None:
        """Append a line in one go, whole or not at all, so that several runs can share a file."""
        if not self._regular:
            return write_all(self._fd, line)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            self._write_or_undo(line)
        finally:
            with suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _write_or_undo(self, line: bytes) -> None:
        start = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            write_all(self._fd, line)
        except OSError:
            os.ftruncate(self._fd, start)
            raise


def _ends_in_mid_line(path: Path, size: int) -> bool:
    with suppress(OSError), path.open("rb") as file:
        file.seek(size - 1)
        return file.read(1) != b"\n"
    return False
