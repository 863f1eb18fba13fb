"""``--pipe-part``: files, cut into blocks that do not pass through us.

As in GNU parallel, a block ends at the first end of a record after a given number of bytes.
Only the ends of the blocks are read here, each when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import final

from ._blocks import Boundary
from ._part import Part

_CHUNK = 1 << 17

_LINE = Boundary()


@final
class Parts:
    """The blocks of files.

    Args:
      paths: the files.
      size: the size of a block in bytes, without the rest of the record that it ends in.
      boundary: stands between two records.
      header: whether every block of a file begins with the first line of the file.
    """

    def __init__(
        self, paths: Sequence[Path], size: int, boundary: Boundary, *, header: bool = False
    ) -> None:
        self._paths = paths
        self._size = size
        self._boundary = boundary
        self._has_header = header
        self._file = self._header = 0
        self._start: int | None = None

    def take(self) -> Part | None:
        """Return the next block, or ``None`` after the last block.

        Raises:
          OSError: if a file cannot be read.
        """
        while self._file < len(self._paths):
            path = self._paths[self._file]
            if self._start is None:
                self._header = _find_end(path, _LINE, 0, 0) if self._has_header else 0
                self._start = self._header
            start = self._start
            end = _find_end(path, self._boundary, start + self._size, start)
            if end > start:
                self._start = end
                return Part(str(path), start, end - start, self._header)
            self._file, self._start = self._file + 1, None
        return None


def _find_end(path: Path, boundary: Boundary, border: int, start: int) -> int:
    """Return the position of the first record after ``border``, or the end of the file."""
    marker = boundary.marker
    fd = os.open(path, os.O_RDONLY)
    try:
        if os.lseek(fd, 0, os.SEEK_END) <= start:
            return start
        data = b""
        while chunk := os.pread(fd, _CHUNK, border):
            data += chunk
            at = data.find(marker)
            if at >= 0:
                return border + at - (len(data) - len(chunk)) + len(boundary.end)
            data = data[max(len(data) - len(marker) + 1, 0) :]
            border += len(chunk)
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
