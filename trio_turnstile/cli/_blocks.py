"""``--pipe``: standard input, cut into blocks of whole records."""

from __future__ import annotations

from typing import final

import attrs

from ._inputs import read_chunk


@final
@attrs.frozen
class Boundary:
    """The boundary between two records: the end of the one, then the start of the other."""

    end: bytes = b"\n"
    """The end of a record; empty if records are recognized by their start."""
    start: bytes = b""
    """The start of a record; empty if records are recognized by their end."""

    @property
    def marker(self) -> bytes:
        """The bytes to search for."""
        return self.end + self.start

    def find_last(self, data: bytes | bytearray, known: int) -> int:
        """Return the position of the last record that begins in ``data``, or 0 for none.

        Args:
          data: begins with a record.
          known: the position up to which there is no boundary, so that it is not searched again.
        """
        at = data.rfind(self.marker, self._first(known))
        return at + len(self.end) if at >= 0 else 0

    def find_next(self, data: bytes | bytearray, start: int, known: int) -> int:
        """Return the position of the record after the one at ``start``, or 0 for none.

        Args:
          data: begins with a record.
          start: the position of a record.
          known: the position up to which there is no boundary, so that it is not searched again.
        """
        at = data.find(self.marker, max(start + self._first(0), self._first(known)))
        return at + len(self.end) if at >= 0 else 0

    def _first(self, known: int) -> int:
        # A start at the very beginning belongs to the first record.
        return max(known - len(self.marker), 0 if self.end else 1)


@final
class Blocks:
    """The blocks of a file.

    Args:
      fd: the file.
      size: the maximum size of a block in bytes, unless a record is longer.
      boundary: stands between two records.
      header: whether every block begins with the first line.
      records: if given, a block is this many records, whatever their size.
    """

    def __init__(
        self,
        fd: int,
        size: int,
        boundary: Boundary,
        *,
        header: bool = False,
        records: int | None = None,
    ) -> None:
        self._fd = fd
        self._size = size
        self._boundary = boundary
        self._records = records
        self._rest = bytearray()
        self._header: bytes | None = None if header else b""

    def take(self) -> bytes:
        """Return the next block, or an empty one after the last block.

        Raises:
          OSError: if the file cannot be read.
        """
        alone = self._header is None and self._records is None  # there may be only a header
        if self._header is None:
            self._header = self._read_header()
        end = self._find_size() if self._records is None else self._find_records(self._records)
        if not (end or alone):
            return b""
        block = self._header + self._rest[:end]
        del self._rest[:end]
        return block

    def _read_header(self) -> bytes:
        more = True
        while more and b"\n" not in self._rest:
            more = self._fill(len(self._rest) + self._size)
        end = self._rest.find(b"\n") + 1 or len(self._rest)
        header = bytes(self._rest[:end])
        del self._rest[:end]
        return header

    def _find_size(self) -> int:
        """Read until there is a block of the maximum size, and return where it ends."""
        known, size = 0, self._size
        while self._fill(size):
            end = self._boundary.find_last(self._rest, known)
            if end:
                return end
            known, size = len(self._rest), size + self._size
        end = self._boundary.find_last(self._rest, known) if known else 0
        return end or len(self._rest)

    def _find_records(self, number: int) -> int:
        """Read until there are ``number`` records, and return where the last one ends."""
        end = known = 0
        while number:
            after = self._boundary.find_next(self._rest, end, known)
            if after:
                end, number = after, number - 1
            else:
                known = len(self._rest)
                if not self._fill(known + self._size) and len(self._rest) == known:
                    return known
        return end

    def _fill(self, size: int) -> bool:
        """Read until there are ``size`` bytes; return whether there were that many."""
        while len(self._rest) < size:
            chunk = read_chunk(self._fd, size - len(self._rest))
            if not chunk:
                return False
            self._rest += chunk
        return True
