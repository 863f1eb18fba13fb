"""Outputs in the order of the inputs: outputs that come too early wait for their turn.

Any number of outputs may wait for a slow operation. A few stay as they are; the others are
moved to a shelf, which is one file for many outputs. So neither memory nor file descriptors
grow with their number. An output that cannot be moved counts as held, and the printer lets no
more operations start while many are held. The operation that they all wait for is running.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from tempfile import TemporaryFile
from typing import IO, final

from ._printout import Output, Printout
from ._spool import CHUNK, read_piece, write_at

_AS_THEY_ARE = 16
"""How many outputs may wait as they are."""

_MOST_MOVED = 1 << 24
"""The largest output to move, in bytes. Moving more would keep others waiting."""

_FILE_SIZE = 1 << 28
"""How many bytes to put into a file before starting another."""


@final
class InOrder:
    """The order of the inputs."""

    def __init__(self) -> None:
        self._next = 1
        self._early: dict[int, Printout] = {}
        self._shelf = _Shelf()
        self._held: set[int] = set()

    @property
    def held(self) -> int:
        """How many outputs are held in memory or in files of their own."""
        return len(self._held)

    def is_turn(self, seq: int) -> bool:
        """Return whether all operations before this one have ended."""
        return seq == self._next

    def put(self, printout: Printout) -> Iterator[Printout]:
        """Take the output of an operation that has ended; yield those whose turn has come."""
        if printout.label.place != self._next:
            self._early[printout.label.place] = self._keep(printout)
            return
        yield printout
        self._next += 1
        while (early := self._early.pop(self._next, None)) is not None:
            self._held.discard(self._next)
            self._next += 1
            yield early

    def rest(self) -> Iterator[Printout]:
        """Yield the outputs that still wait: the operations before them have not begun."""
        for seq in sorted(self._early):
            yield self._early.pop(seq)
        self._held.clear()

    def _keep(self, printout: Printout) -> Printout:
        if not printout.written:
            return printout
        size = sum(output.left for output in printout.outputs)
        if len(self._held) >= _AS_THEY_ARE and size <= _MOST_MOVED:
            with suppress(OSError):  # a full disk, or no file is left: the output stays as it is
                return self._shelf.take(printout)
        self._held.add(printout.label.place)
        return printout


@final
class _Shelf:
    """Keeps outputs in as few files as possible."""

    def __init__(self) -> None:
        self._file: _File | None = None

    def take(self, printout: Printout) -> Printout:
        """Move an output here.

        Raises:
          OSError: if it cannot be moved; the output is then unchanged.
        """
        if self._file is None or not self._file.join():
            self._file = _File()
        file, kept = self._file, list[Output]()
        try:
            for output in printout.outputs:
                kept.append(file.add(output))
        except OSError:
            for output in kept:
                output.close()
            raise
        finally:
            file.leave()
        printout.close()
        return printout.with_outputs(kept)


@final
class _File:
    """A temporary file with outputs one after the other; closed when its last user leaves.

    The creator of the file is the first user. The printing thread may be the last.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = TemporaryFile(buffering=0)  # noqa: SIM115 (see `leave`)
        self._lock = threading.Lock()
        self._end, self._users = 0, 1

    def join(self) -> bool:
        """Become a user, if the file is open and has room."""
        with self._lock:
            joins = self._end < _FILE_SIZE and self._users > 0
            self._users += joins
        return joins

    def use(self) -> None:
        """Become another user, while there is one."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Stop being a user."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._file.close()

    def add(self, output: Output) -> Output:
        """Copy an output to the end."""
        start = end = self._end
        for piece in output.pieces():
            write_at(self._file.fileno(), piece, end)
            end += len(piece)
        self._end = end
        return _Part(self, start, end)

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``end``, in pieces."""
        while start < end:
            piece = read_piece(self._file.fileno(), min(CHUNK, end - start), start)
            yield piece
            start += len(piece)


@final
class _Part:
    """An output that is part of a file, and one of its users."""

    def __init__(self, file: _File, start: int, end: int) -> None:
        file.use()
        self._file: _File | None = file
        self._start, self._end = start, end

    @property
    def left(self) -> int:
        """How many bytes there are to print."""
        return self._end - self._start

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, in pieces."""
        return self._read(self._start)

    def last_byte(self) -> bytes:
        """Return the last byte, if there is one."""
        return b"".join(self._read(max(self._end - 1, self._start)))

    def close(self) -> None:
        """Drop the bytes."""
        file, self._file = self._file, None
        if file is not None:
            file.leave()

    def _read(self, start: int) -> Iterator[bytes]:
        return iter(()) if self._file is None else self._file.read(start, self._end)
