"""``--pipe``: standard input, cut into blocks of whole records.

A block is read when it is asked for, and it is asked for when an operation has a slot for it. So
memory holds as many blocks as the limit allows operations, and a record that was cut short;
whoever writes to us waits meanwhile.
"""

from __future__ import annotations

from typing import Self, final

import attrs

from ._columns import Input
from ._inputs import InputError, read_chunk
from ._threads import in_thread


@final
@attrs.frozen
class Boundary:
    """What stands between two records: the end of the one, then the start of the other."""

    end: bytes = b"\n"
    """What a record ends with; nothing if records are known by their start."""
    start: bytes = b""
    """What a record starts with; nothing if records are known by their end."""

    def find_last(self, data: bytes | bytearray, known: int) -> int:
        """Return where the last record starts that begins in ``data``, or 0 for none.

        Args:
          data: begins with a record.
          known: up to where there is no boundary, which need not be searched again.
        """
        marker = self.end + self.start
        # A start of a record at the very beginning is that of the first.
        at = data.rfind(marker, max(known - len(marker), 0 if self.end else 1))
        return at + len(self.end) if at >= 0 else 0


@final
class Blocks:
    """The blocks of a file, each the standard input of one operation.

    Args:
      fd: the file.
      size: the most bytes of a block, unless a record is longer.
      boundary: stands between two records.
    """

    def __init__(self, fd: int, size: int, boundary: Boundary) -> None:
        self._fd = fd
        self._size = size
        self._boundary = boundary
        self._rest = bytearray()
        self.taken = 0
        self.total: int | None = None
        self.error: InputError | None = None

    async def read(self) -> None:
        """Do nothing: what is read ahead would take memory."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        if self.total is not None:
            raise StopAsyncIteration
        try:
            block = await in_thread(self._read_block)
        except OSError as error:
            self.error = error
            raise
        if not block:
            self.total = self.taken
            raise StopAsyncIteration
        self.taken += 1
        number = str(self.taken)
        return Input(number, (number,), block)

    def _read_block(self) -> bytes:
        known, size = 0, self._size
        while self._fill(size):
            end = self._boundary.find_last(self._rest, known)
            if end:
                return self._take(end)
            known, size = len(self._rest), size + self._size
        end = self._boundary.find_last(self._rest, known) if known else 0
        return self._take(end or len(self._rest))

    def _fill(self, size: int) -> bool:
        """Read until there are so many bytes; return whether there were as many."""
        while len(self._rest) < size:
            chunk = read_chunk(self._fd, size - len(self._rest))
            if not chunk:
                return False
            self._rest += chunk
        return True

    def _take(self, size: int) -> bytes:
        block = bytes(self._rest[:size])
        del self._rest[:size]
        return block
