"""The rows of ``--results FILE.csv``, ``.tsv`` and ``.json``. Sans-I/O.

The columns, and the form of the JSON, are those of GNU parallel. The outputs are written in
pieces, since they may not fit into memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, final

from ._columns import Columns
from ._joblog import COLUMNS, Entry

_OUTPUTS = ["Stdout", "Stderr"]
_TEXTS = {"Host", "Command"}
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f\ud800-\udfff]')


class RowFormat(Protocol):
    """How rows are written."""

    def continues(self, file: io.TextIOBase) -> bool:
        """Tell whether rows can be appended to a file that is not empty."""
        ...

    def header(self, columns: Sequence[str]) -> bytes:
        """Return the beginning of the file, if the first row has these columns."""
        ...

    def pieces(
        self, entry: Entry, columns: Sequence[str], outputs: Sequence[Iterable[bytes]]
    ) -> Iterator[bytes]:
        """Yield a row in pieces.

        Args:
          entry: what the job log says about the operation.
          columns: the columns of its input.
          outputs: its standard output and its standard error, in pieces.
        """
        ...


@final
class SeparatedRows:
    """A table with a header, its values separated by commas or tabs.

    Args:
      columns: what is known about the columns of the inputs. If their number is unknown, it is
        taken from the first operation that ends; further columns of others are left out.
      separator: stands between two values.
    """

    def __init__(self, columns: Columns, separator: str) -> None:
        self._width = columns.count
        self._names = columns.names
        self._separator = separator

    def continues(self, file: io.TextIOBase) -> bool:
        """Tell whether the header has the columns of this table."""
        header = next(csv.reader(file, delimiter=self._separator), [])
        if self._width is None:
            self._width = len(header[len(COLUMNS) : -len(_OUTPUTS)])
        return header == self._header(self._width)

    def header(self, columns: Sequence[str]) -> bytes:
        """Return the names of the columns."""
        self._width = len(columns) if self._width is None else self._width
        return self._row(self._header(self._width)) + b"\n"

    def pieces(
        self, entry: Entry, columns: Sequence[str], outputs: Sequence[Iterable[bytes]]
    ) -> Iterator[bytes]:
        """Yield a row in pieces."""
        width = len(columns) if self._width is None else self._width
        inner = [*columns, *[""] * width][:width]
        yield self._row([*entry.fields(), *inner])
        for output in outputs:
            yield os.fsencode(f'{self._separator}"')
            for piece in output:
                yield piece.replace(b'"', b'""')
            yield b'"'
        yield b"\n"

    def _header(self, width: int) -> list[str]:
        names = [*self._names, *[""] * width][:width]
        inner = [name or f"V{number}" for number, name in enumerate(names, 1)]
        return [*COLUMNS, *inner, *_OUTPUTS]

    def _row(self, values: Sequence[str]) -> bytes:
        text = io.StringIO()
        csv.writer(text, delimiter=self._separator, lineterminator="").writerow(values)
        return os.fsencode(text.getvalue())


@final
class JsonRows:
    """A JSON object on each line. Undecodable bytes become lone surrogates, as in Python."""

    def continues(self, file: io.TextIOBase) -> bool:
        """Tell whether the first line begins like one of these lines."""
        start = _members([(COLUMNS[0], "")])
        return file.read(len(start)) == start

    def header(self, columns: Sequence[str]) -> bytes:
        """Return nothing."""
        return b""

    def pieces(
        self, entry: Entry, columns: Sequence[str], outputs: Sequence[Iterable[bytes]]
    ) -> Iterator[bytes]:
        """Yield a line in pieces."""
        named = zip(COLUMNS, entry.fields(), strict=True)
        values = [(name, _json(value) if name in _TEXTS else value) for name, value in named]
        inner = ",".join(map(_json, columns))
        yield f'{_members(values)}, "V": [ {inner} ]'.encode()
        for name, output in zip(_OUTPUTS, outputs, strict=True):
            yield f', "{name}": "'.encode()
            decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
            for piece in output:
                yield _escaped(decode(piece)).encode()
            yield _escaped(decode(b"", True)).encode() + b'"'
        yield b" }\n"


def _members(values: Iterable[tuple[str, str]]) -> str:
    return "{ " + ", ".join(f'"{name}": {value}' for name, value in values)


def _json(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    letter = found[0]
    return f"\\{letter}" if letter in '"\\' else f"\\u{ord(letter):04x}"
