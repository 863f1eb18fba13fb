"""The job log: a line of tab-separated values for each operation, as it ends.

The columns are GNU parallel's, so that what reads its logs reads these. A command
may have tabs in it, as it comes last; newlines in it are written as NULs, as GNU
parallel does, so that a line stays a line.
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
    """What is logged of one operation."""

    seq: int
    """The number of its input, from 1."""
    started: float
    """When its last attempt began, in seconds since 1970."""
    runtime: float
    """How long that attempt took, clean-up left out, in seconds."""
    received: int
    """How many bytes it wrote to its standard output."""
    exitval: int
    """The exit status; -1 if there is none, as it was cut off or could not start."""
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
    """A job log in a file. It is appended to; a new or empty file gets the header first.

    Raises:
      OSError: if the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        # Unbuffered: each entry is there at once, whole, whoever else appends.
        self._file = path.open("ab", buffering=0)
        if not os.fstat(self._file.fileno()).st_size:
            self._file.write("\t".join(COLUMNS).encode() + b"\n")

    def add(self, entry: Entry) -> None:
        """Append an entry."""
        self._file.write(entry.line())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
