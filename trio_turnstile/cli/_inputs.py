"""The inputs: from arguments, a file or standard input, read lazily.

A thread reads a file in whatever pieces arrive. So the command for an input can start
as soon as that input has arrived, and a pipe that stays open blocks nothing else.
`trio.lowlevel.FdStream` would not do: it makes the pipe non-blocking for every process
that shares it, and cannot read a regular file. `FileInputs` reads a little ahead, and so
knows early how many inputs a short pipe has. It counts the inputs of a regular file of any
length while operations run.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, TypeAlias, TypeVar, final

import attrs
from trio.lowlevel import ParkingLot, checkpoint

from ._threads import in_thread

LONGEST = 1 << 20
"""The longest input to accept, in bytes: no system accepts an argument of this length."""

InputError: TypeAlias = OSError | ValueError
"""Why inputs cannot be read to the end."""

_CHUNK = 1 << 16

T_co = TypeVar("T_co", covariant=True)


class Inputs(Protocol[T_co]):
    """An async iterator of inputs that counts them."""

    @property
    def taken(self) -> int:
        """How many inputs were taken so far."""
        ...

    @property
    def total(self) -> int | None:
        """How many inputs there are; ``None`` while that is unknown."""
        ...

    @property
    def error(self) -> InputError | None:
        """The error that `__anext__` raised instead of an input, if it did."""
        ...

    async def read(self) -> None:
        """Read the inputs ahead of `__anext__`; must run in its own task."""

    def __aiter__(self) -> Self:
        """Return itself."""
        ...

    async def __anext__(self) -> T_co:
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
@attrs.frozen
class OpenFile:
    """A file that something was already read from."""

    fd: int
    ahead: bytes
    """The bytes that were read, which belong to inputs."""


@final
class FileInputs:
    """Inputs from a file, one per line. Bytes that are not text are kept as they are.

    Args:
      file: the path of the file, or the file if it is already open; ``None`` for standard input.
      end: the bytes that end an input.
    """

    def __init__(self, file: Path | OpenFile | None, *, end: bytes = b"\n") -> None:
        self._file = file
        self._end = end
        self._records: deque[bytes] = deque()
        self._ahead = 0  # the bytes in the records, plus one for the end of each
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
            await self._read_from(await self._open())
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

    async def _open(self) -> OpenFile:
        if isinstance(self._file, OpenFile):
            return self._file
        # Opening a named pipe waits for its writer, so a thread does it. We never close the
        # file: when the run ends, a thread may still be reading it.
        fd = 0 if self._file is None else await in_thread(os.open, self._file, os.O_RDONLY)
        return OpenFile(fd, b"")

    async def _read_from(self, file: OpenFile) -> None:
        fd = file.fd
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        start = os.lseek(fd, 0, os.SEEK_CUR) - len(file.ahead) if regular else 0
        self._split(file.ahead)
        while chunk := await in_thread(read_chunk, fd):
            self._split(chunk)
            if regular and self.total is None:
                self.total = await in_thread(_count, fd, start, self._end)
            while self._ahead >= _CHUNK:
                await self._reader.park()
        if self._rest:
            self._keep(self._rest)
            self._taker.unpark()
        self.total = self.taken + len(self._records)

    def _split(self, chunk: bytes) -> None:
        *records, self._rest = (self._rest + chunk).split(self._end)
        for record in records:
            self._keep(record)
        if len(self._rest) > LONGEST:
            raise ValueError(self._unusable())
        self._taker.unpark()

    def _keep(self, record: bytes) -> None:
        if b"\0" in record:
            raise ValueError(self._unusable())
        self._records.append(record)
        self._ahead += len(record) + 1

    def _unusable(self) -> str:
        return (
            f"input {self.taken + len(self._records) + 1} has a NUL in it or more than {LONGEST} "
            "bytes, so it cannot be an argument; if inputs end with NULs, use --null"
        )


def describe_input_error(error: InputError) -> str:
    """Return the message about an error that has ended the inputs."""
    return f"cannot read the rest of the inputs: {error}"


def read_chunk(fd: int, size: int = _CHUNK) -> bytes:
    """Read from ``fd``, even if another process has made it non-blocking."""
    while True:
        try:
            return os.read(fd, size)
        except BlockingIOError:
            select.select([fd], [], [])


def _count(fd: int, offset: int, end: bytes) -> int:
    count, rest = 0, b""
    while chunk := os.pread(fd, 1 << 20, offset):
        offset += len(chunk)
        *ended, rest = (rest + chunk).rsplit(end, 1)
        count += len(ended) and ended[0].count(end) + 1
        rest = rest[-len(end) :]  # an end of several bytes may be split between two chunks
    return count + bool(rest)
