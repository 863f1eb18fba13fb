"""JSON Lines files as sources and sinks of pipelines, and dead letters in them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from os import PathLike
from typing import Any, TextIO, cast, final

import trio

from trio_turnstile._errors import ConcurrentError

from .gathering import BatchError

CHARACTERS_READ = 65_536
"""About how many characters are read at a time."""


def dead_letter_to_dict(error: ConcurrentError) -> dict[str, Any]:
    """Return a dead letter as a dictionary that JSON can hold, if its item can be."""
    return {
        "item": error.item,
        "identifiers": list(error.identifiers),
        "stage": error.phase,
        "attempt": error.attempt,
        "notes": [*error.notes, *getattr(error.__cause__, "__notes__", ())],
        "error": repr(error.__cause__ or error),
    }


def _encode(item: object) -> str:
    return json.dumps(dead_letter_to_dict(item) if isinstance(item, ConcurrentError) else item)


@final
class JsonLinesWriter:
    """A sink that adds a line of JSON to a file for each item.

    It is the function of a `Consumer`, which opens it for each run. Dead letters,
    that is `ConcurrentError`, are written as `dead_letter_to_dict` has them.

    Args:
      path: the file; it is made if it does not exist, and added to if it does.
      encode: from an item to its line, without the line end.
    """

    def __init__(
        self, path: str | PathLike[str], *, encode: Callable[[Any], str] = _encode
    ) -> None:
        self._path = path
        self._encode = encode
        self._file: TextIO
        self._turn = trio.Lock()

    async def __aenter__(self) -> JsonLinesWriter:
        self._file = await trio.to_thread.run_sync(_open, self._path, "a")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._file.close()  # every line is flushed already
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def __call__(self, item: Any) -> None:
        """Write one item; its line is in the file when this returns.

        Once the writing has begun, it is finished, cancelled or not: half a line
        would spoil the next as well.
        """
        await self.write([self._encode(item)])

    async def write(self, lines: Iterable[str]) -> None:
        """Write lines as they are, each without its line end."""
        text = "".join(f"{line}\n" for line in lines)
        async with self._turn:
            await trio.to_thread.run_sync(_append, self._file, text)


@final
class JsonLinesBatchWriter:
    """The same for batches, and much faster: a `Consumer` with ``batch`` calls it.

    Members that cannot be encoded fail with `BatchError`; the others are written.

    Args:
      path: the file; it is made if it does not exist, and added to if it does.
      encode: from an item to its line, without the line end.
    """

    def __init__(
        self, path: str | PathLike[str], *, encode: Callable[[Any], str] = _encode
    ) -> None:
        self._writer = JsonLinesWriter(path)
        self._encode = encode

    async def __aenter__(self) -> JsonLinesBatchWriter:
        await self._writer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writer.__aexit__()

    async def __call__(self, items: list[Any]) -> None:
        """Write the members of a batch; their lines are in the file when this returns.

        Raises:
          BatchError: for the members that could not be encoded.
        """
        lines: list[str] = []
        errors: dict[int, Exception] = {}
        for index, item in enumerate(items):
            try:
                lines.append(self._encode(item))
            except Exception as error:
                errors[index] = error
        await self._writer.write(lines)
        if errors:
            raise BatchError(errors)


@final
class JsonLinesReader:
    """A source that gives what each line of a JSON Lines file holds, empty lines aside.

    A line that cannot be decoded fails the source with a `ValueError` that names
    the file and the line.

    Args:
      path: the file; it is opened anew for each run.
      decode: from a line to an item.
    """

    def __init__(
        self, path: str | PathLike[str], *, decode: Callable[[str], Any] = json.loads
    ) -> None:
        self._path = path
        self._decode = decode

    def __aiter__(self) -> AsyncIterator[Any]:
        """Read the file from its beginning."""
        return _Lines(self._path, self._decode)


@final
class _Lines:
    """Reads a file some lines at a time, as a thread for each line would be slow."""

    def __init__(self, path: str | PathLike[str], decode: Callable[[str], Any]) -> None:
        self._path = path
        self._decode = decode
        self._file: TextIO | None = None
        self._lines: Iterator[str] = iter(())
        self._number = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            for line in self._lines:
                self._number += 1
                if line.strip():
                    await trio.lowlevel.checkpoint()
                    return self._decoded(line)
            if self._file is None:
                self._file = await trio.to_thread.run_sync(_open, self._path, "r")
            lines = await trio.to_thread.run_sync(self._file.readlines, CHARACTERS_READ)
            if not lines:
                await self.aclose()
                raise StopAsyncIteration
            self._lines = iter(lines)

    async def aclose(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _decoded(self, line: str) -> Any:
        try:
            return self._decode(line)
        except Exception as error:
            raise ValueError(f"{self._path}, line {self._number}: {error}") from error


def _open(path: str | PathLike[str], mode: str) -> TextIO:
    return cast("TextIO", open(path, mode, encoding="utf-8"))  # noqa: PTH123


def _append(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
