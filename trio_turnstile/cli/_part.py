"""`Part`: a part of a file, as the standard input of a command.

``head`` reads the part and writes it into a pipe, so the bytes do not pass through us, and each
running operation has its own reader. The command itself cannot get the file, because it would
read on past the end of the part.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self, final

import attrs

_MARK = ["", "part"]
"""The beginning of the identity of a part. An input with columns has a text, so none begins so."""


@final
@attrs.frozen
class Part:
    """A part of a file that can be read at any position."""

    path: str
    """The file."""
    start: int
    """Where the part begins, in bytes."""
    size: int
    """How many bytes the part has."""
    header: int = 0
    """How many bytes from the beginning of the file come before the part."""

    def __str__(self) -> str:
        return f"{self.path}:{self.start}-{self.start + self.size}"

    def __len__(self) -> int:
        return self.header + self.size

    def fields(self) -> list[str]:
        """Return the fields of its identity in a ledger."""
        header = [str(self.header)] if self.header else []
        return [*_MARK, self.path, str(self.start), str(self.size), *header]

    @classmethod
    def of_fields(cls, fields: Sequence[str]) -> Self | None:
        """Return the part with these fields in a ledger, or ``None`` if they are not a part's."""
        if [*fields[:2]] != _MARK or len(fields) not in (5, 6):
            return None
        return cls(fields[2], *map(int, fields[3:]))

    @contextmanager
    def opened(self) -> Iterator[int]:
        """Open a pipe from which the part can be read.

        The process that writes into it ends at the end of the part, or by SIGPIPE when the pipe
        has no reader any more. The launcher reaps that process, as it does orphans.

        Raises:
          OSError: if the file cannot be read, or ``head`` cannot be started.
        """
        read_end, write_end = os.pipe()
        try:
            try:
                self._start_head(write_end)
            finally:
                os.close(write_end)
            yield read_end
        finally:
            os.close(read_end)

    def _start_head(self, write_end: int) -> None:
        """Start ``head`` in its own process group, which no Ctrl-C reaches."""
        command = ["head", "-c", str(self.size)]
        if self.header:
            both = 'head -c "$1" <"$2"; exec head -c "$3"'
            command = ["sh", "-c", both, "sh", str(self.header), self.path, str(self.size)]
        file = os.open(self.path, os.O_RDONLY)
        try:
            os.lseek(file, self.start, os.SEEK_SET)
            os.posix_spawnp(
                command[0],
                command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, file, 0), (os.POSIX_SPAWN_DUP2, write_end, 1)],
                setpgroup=0,
                setsigdef=[signal.SIGPIPE],
            )
        finally:
            os.close(file)
