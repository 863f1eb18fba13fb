"""``--pipe-part``: files, cut into blocks that the commands get without passing through us.

As with GNU parallel, a block ends at the first end of a record that comes after so many bytes.
Only the ends are read here, one when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self, final

from ._blocks import Boundary
from ._columns import Input
from ._inputs import InputError
from ._part import Part
from ._threads import in_thread

_CHUNK = 1 << 17


@final
class Parts:
    """The blocks of files, each the standard input of one operation.

    Args:
      paths: the files.
      size: how many bytes a block has, without what follows up to the end of a record.
      boundary: stands between two records.
    """

    def __init__(self, paths: Sequence[Path], size: int, boundary: Boundary) -> None:
        self._paths = paths
        self._size = size
        self._boundary = boundary
        self._file = self._start = 0
        self.taken = 0
        self.total: int | None = None
        self.error: InputError | None = None

    async def read(self) -> None:
        """Do nothing: a run can go on before all ends are known."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        if self.total is not None:
            raise StopAsyncIteration
        try:
            part = await in_thread(self._next_part)
        except OSError as error:
            self.error = error
            raise
        if part is None:
            self.total = self.taken
            raise StopAsyncIteration
        self.taken += 1
        return Input(str(part), (str(part),), part)

    def _next_part(self) -> Part | None:
        while self._file < len(self._paths):
            path, start = self._paths[self._file], self._start
            end = self._find_end(path, start + self._size, start)
            if end > start:
                self._start = end
                return Part(str(path), start, end - start)
            self._file, self._start = self._file + 1, 0
        return None

    def _find_end(self, path: Path, border: int, start: int) -> int:
        """Return where the first record after a border begins, or the end of the file."""
        marker = self._boundary.end + self._boundary.start
        fd = os.open(path, os.O_RDONLY)
        try:
            if os.lseek(fd, 0, os.SEEK_END) <= start:
                return start
            data = b""
            while chunk := os.pread(fd, _CHUNK, border):
                data += chunk
                at = data.find(marker)
                if at >= 0:
                    return border + at - (len(data) - len(chunk)) + len(self._boundary.end)
                data = data[max(len(data) - len(marker) + 1, 0) :]
                border += len(chunk)
            return os.lseek(fd, 0, os.SEEK_END)
        finally:
            os.close(fd)
