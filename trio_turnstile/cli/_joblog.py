"""The job log: a line of tab-separated values for each operation, written when it ends.

The columns are those of GNU parallel, so programs that read its logs can read these. The
command comes last, so it may contain tabs. Newlines in it are written as NULs, as GNU
parallel does, so that every entry is one line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

import attrs

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
    started: float
    """When its last attempt began, in seconds since 1970."""
    runtime: float
    """How long that attempt took without the clean-up, in seconds."""
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
        times = f"{self.started:.3f}\t{self.runtime:10.3f}"
        fields = (self.seq, ":", times, 0, self.received, self.exitval, self.signal, self.command)
        return os.fsencode("\t".join(map(str, fields)).replace("\n", "\0")) + b"\n"


@final
class JobLog:
    """A job log in a file. Entries are appended; a new or empty file gets the header first.

    Args:
      path: the file.

    Raises:
      OSError: if the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        # Unbuffered: each entry is written at once and in one piece, so several runs can
        # append to one file.
        self._failed = False
        self._file = path.open("ab", buffering=0)
        if not os.fstat(self._file.fileno()).st_size:
            self._file.write("\t".join(COLUMNS).encode() + b"\n")

    def add(self, entry: Entry) -> None:
        """Append an entry, or do nothing if an earlier one could not be written.

        Raises:
          OSError: if it cannot be written.
        """
        if self._failed:
            return
        try:
            self._file.write(entry.line())
        except OSError:
            self._failed = True
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()
