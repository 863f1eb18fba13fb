"""``--results FILE.csv``: a row for each operation that has ended, with its output.

The columns are those of GNU parallel. The outputs are written in pieces, since they can be
longer than memory; all else is written by Python's csv.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import final

from ._columns import Columns
from ._joblog import COLUMNS, Entry
from ._output import write_all

_OUTPUTS = ["Stdout", "Stderr"]


@final
class ResultsTable:
    """A table in a file. Rows are appended; a new or empty file gets the header first.

    Args:
      path: the file.
      columns: what is known of the columns of the inputs. If nobody knows how many there
        are, the first operation that ends says it; what another has more is left out.

    Raises:
      OSError: if the file cannot be read or written.
      ValueError: if it has other columns.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self._failed = False
        self._width = columns.count
        self._names = columns.names
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o666)
        try:
            self._check_header(path)
        except ValueError:
            os.close(self._fd)
            raise

    def add(self, entry: Entry, columns: Sequence[str], outputs: Sequence[Iterable[bytes]]) -> None:
        """Append a row, or do nothing if an earlier one could not be written.

        Args:
          entry: what the job log says of the operation.
          columns: the columns of its input.
          outputs: its standard output and its standard error, in pieces.

        Raises:
          OSError: if it cannot be written.
        """
        if self._failed:
            return
        try:
            self._write_or_undo(entry, columns, outputs)
        except OSError:
            self._failed = True
            raise

    def close(self) -> None:
        """Close the file.

        Raises:
          OSError: if the system could not write what it had accepted.
        """
        os.close(self._fd)

    def _check_header(self, path: Path) -> None:
        if not os.fstat(self._fd).st_size:
            return
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            header = next(csv.reader(file), [])
        inner = header[len(COLUMNS) : -len(_OUTPUTS)]
        if self._width is None:
            self._width = len(inner)
        if header != self._header(self._width):
            raise ValueError("it has other columns")

    def _header(self, width: int) -> list[str]:
        names = [*self._names, *[""] * width][:width]
        inner = [name or f"V{number}" for number, name in enumerate(names, 1)]
        return [*COLUMNS, *inner, *_OUTPUTS]

    def _write_or_undo(
        self, entry: Entry, columns: Sequence[str], outputs: Sequence[Iterable[bytes]]
    ) -> None:
        start = os.lseek(self._fd, 0, os.SEEK_END)
        width = self._width = len(columns) if self._width is None else self._width
        try:
            if not start:
                write_all(self._fd, _row(self._header(width)) + b"\n")
            inner = [*columns, *[""] * width][:width]
            write_all(self._fd, _row([*entry.fields(), *inner]))
            for output in (*outputs, (), ())[: len(_OUTPUTS)]:
                for piece in _quoted(output):
                    write_all(self._fd, piece)
            write_all(self._fd, b"\n")
        except OSError:
            with suppress(OSError):  # not every file can be cut
                os.ftruncate(self._fd, start)
            raise


def _row(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return os.fsencode(text.getvalue())


def _quoted(output: Iterable[bytes]) -> Iterator[bytes]:
    yield b',"'
    for piece in output:
        yield piece.replace(b'"', b'""')
    yield b'"'
