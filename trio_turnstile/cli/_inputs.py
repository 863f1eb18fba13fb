"""The inputs: from arguments, a file or standard input, read lazily.

A thread reads a file, in whatever pieces it comes. So the command for an input can start
as soon as that input has arrived, and a pipe that stays open blocks nothing else.
`trio.lowlevel.FdStream` would not do: it makes the pipe non-blocking for every process
that shares it, and cannot read a regular file. `FileInputs` reads a little ahead, and so
knows early how many inputs a short pipe has. It counts those of a regular file, however
long, while operations run.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias, final

from trio.lowlevel import ParkingLot, checkpoint

from ._threads import in_thread

LONGEST = 1 << 20
"""The longest input to accept, in bytes: no system takes an argument as long."""

InputError: TypeAlias = OSError | ValueError
"""Why inputs cannot be read to their end."""

_CHUNK = 1 << 16


class Inputs(Protocol):
    """An async iterator of inputs, which keeps count of them."""

    taken: int
    """How many were taken so far."""
    total: int | None
    """How many there are; ``None`` while that is unknown."""
    error: InputError | None
    """What `__anext__` has raised in place of an input, if it has."""

    async def read(self) -> None:
        """Read the inputs ahead of `__anext__`; must run in a task of its own."""

    def __aiter__(self) -> Self:
        """Return itself."""
        ...

    async def __anext__(self) -> str:
        """Wait for an input and take it.

        Raises:
          OSError: if the inputs cannot be read.
          ValueError: for an input that no command can take as an argument.
        """
        ...


@final
class GivenInputs:
    """Inputs from the arguments of the command."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self.taken = 0
        self.total: int | None = len(texts)
        self.error: InputError | None = None

    async def read(self) -> None:
        """Do nothing."""
        await checkpoint()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        await checkpoint()
        if self.taken == self.total:
            raise StopAsyncIteration
        self.taken += 1
        return self._texts[self.taken - 1]


@final
class FileInputs:
    """Inputs from a file, one per line. Bytes that are not text are kept as they are.

    Args:
      path: the file; ``None`` for standard input.
      null: whether inputs end with NULs instead of newlines.
    """

    def __init__(self, path: Path | None, *, null: bool = False) -> None:
        self._path = path
        self._end = b"\0" if null else b"\n"
        self._records: deque[bytes] = deque()
        self._ahead = 0  # bytes in the records, and one for the end of each
        self._rest = b""
        self._at_end = False
        self._failure: InputError | None = None
        self._taker = ParkingLot()
        self._reader = ParkingLot()
        self.taken = 0
        self.total: int | None = None
        self.error: InputError | None = None

    async def read(self) -> None:
        """Read to the end, only a little ahead of what is taken."""
        try:
            # Opening a named pipe waits for its writer, so a thread does it. We never close
            # the file: when the run ends, a thread may still be reading it.
            fd = 0 if self._path is None else await in_thread(os.open, self._path, os.O_RDONLY)
            await self._read_from(fd)
        except (OSError, ValueError) as error:
            self._failure = error
        self._at_end = True
        self._taker.unpark()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        await checkpoint()
        while not self._records:
            if self._failure is not None:
                self.error = self._failure
                raise self._failure
            if self._at_end:
                raise StopAsyncIteration
            await self._taker.park()
        record = self._records.popleft()
        self._ahead -= len(record) + 1
        self._reader.unpark()
        self.taken += 1
        return os.fsdecode(record)

    async def _read_from(self, fd: int) -> None:
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        start = os.lseek(fd, 0, os.SEEK_CUR) if regular else 0
        while chunk := await in_thread(_read, fd):
            self._split(chunk)
            if regular and self.total is None:
                self.total = await in_thread(_count, fd, start, self._end)
            while self._ahead >= _CHUNK:
                await self._reader.park()
        if self._rest:
            self._split(self._end)
        self.total = self.taken + len(self._records)

    def _split(self, chunk: bytes) -> None:
        *records, self._rest = (self._rest + chunk).split(self._end)
        for record in records:
            if b"\0" in record:
                raise ValueError(self._unusable())
            self._records.append(record)
            self._ahead += len(record) + 1
        if len(self._rest) > LONGEST:
            raise ValueError(self._unusable())
        self._taker.unpark()

    def _unusable(self) -> str:
        return (
            f"input {self.taken + len(self._records) + 1} has a NUL in it or more than {LONGEST} "
            "bytes, which no argument can have; for inputs that end with NULs use --null"
        )


def describe_input_error(error: InputError) -> str:
    """Return what to tell the user about an error that has ended the inputs."""
    return f"cannot read the rest of the inputs: {error}"


def _read(fd: int) -> bytes:
    """Read from ``fd``, even if another process has made it non-blocking."""
    while True:
        try:
            return os.read(fd, _CHUNK)
        except BlockingIOError:
            select.select([fd], [], [])


def _count(fd: int, offset: int, end: bytes) -> int:
    count, last = 0, end
    while chunk := os.pread(fd, 1 << 20, offset):
        count, last, offset = count + chunk.count(end), chunk[-1:], offset + len(chunk)
    return count + (last != end)
