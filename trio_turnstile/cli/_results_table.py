"""``--results FILE.csv``: a row for each operation that has ended, with its output."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import final

from ._joblog import Entry
from ._output import write_all
from ._results_formats import RowFormat


@final
class ResultsTable:
    """A table in a file. Rows are appended; a new or empty file gets the header first.

    Args:
      path: the file.
      rows: the format of the rows.

    Raises:
      OSError: if the file cannot be read or written.
      ValueError: if the file contains something else.
    """

    def __init__(self, path: Path, rows: RowFormat) -> None:
        self._failed = False
        self._rows = rows
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o666)
        try:
            self._check(path)
        except ValueError:
            os.close(self._fd)
            raise

    def add(self, entry: Entry, columns: Sequence[str], outputs: Sequence[Iterable[bytes]]) -> None:
        """Append a row, or do nothing if an earlier one could not be written.

        Args:
          entry: what the job log says about the operation.
          columns: the columns of its input.
          outputs: its standard output and its standard error, in pieces.

        Raises:
          OSError: if it cannot be written.
        """
        if self._failed:
            return
        start = os.lseek(self._fd, 0, os.SEEK_END)
        try:
            if not start:
                write_all(self._fd, self._rows.header(columns))
            for piece in self._rows.pieces(entry, columns, (*outputs, (), ())[:2]):
                write_all(self._fd, piece)
        except OSError:
            self._failed = True
            with suppress(OSError):  # not every file can be truncated
                os.ftruncate(self._fd, start)
            raise

    def close(self) -> None:
        """Close the file.

        Raises:
          OSError: if the system could not write what it had accepted.
        """
        os.close(self._fd)

    def _check(self, path: Path) -> None:
        if not os.fstat(self._fd).st_size:
            return
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            if not self._rows.continues(file):
                raise ValueError("it has other columns")
