"""JSON Lines files as sources and sinks of pipelines, and dead letters in them.

A line is written whole or not at all, and the fate of its item says which. The reading and
writing of files is in `trio_turnstile._engine.files`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from os import PathLike
from typing import Any, TypeAlias, final

import trio

from trio_turnstile._engine.files import Appender, Chunks, append_once
from trio_turnstile._engine.letters import dead_letter_to_dict
from trio_turnstile._errors import ConcurrentError

from .gathering import BatchError

Path: TypeAlias = str | PathLike[str]
Encode: TypeAlias = Callable[[Any], str | bytes]
"""Returns the line of an item, without the line end."""


def _encode(item: object) -> str:
    return json.dumps(dead_letter_to_dict(item) if isinstance(item, ConcurrentError) else item)


def _line(encoded: object) -> bytes:
    if not isinstance(encoded, str | bytes):
        raise TypeError(f"encode must return a line as text or bytes, not {encoded!r}")
    line = encoded.encode() if isinstance(encoded, str) else encoded
    if b"\n" in line:
        raise ValueError(f"encode must return one line, without its line end, not {encoded!r}")
    return line + b"\n"


@final
class JsonLinesWriter:
    """A sink that adds a line of JSON to a file for each item.

    Use it as the function of a `Consumer`, which opens it for each run; runs side by side
    share the file. Elsewhere, such as in a `DeadLetter`, it opens and closes the file for each
    item, unless it is entered as an async context manager. Dead letters (`ConcurrentError`)
    are written as `dead_letter_to_dict` returns them.

    If the line of an item cannot be written whole, the item fails and leaves nothing in the
    file. A line that another program left unfinished at the end of the file stays a line of
    its own.

    Args:
      path: the file; it is made if it does not exist, and added to if it does.
      encode: returns the line of an item, text or UTF-8 bytes, without the line end.
    """

    def __init__(self, path: Path, *, encode: Encode = _encode) -> None:
        self._path = path
        self._encode = encode
        self._file: Appender | None = None
        self._users = 0
        self._turn = trio.Lock()

    async def __aenter__(self) -> JsonLinesWriter:
        async with self._turn:
            if self._file is None:
                self._file = await trio.to_thread.run_sync(Appender, self._path)
            self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._file is not None and not self._users:
            self._file.close()
            self._file = None
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def __call__(self, item: Any) -> None:
        """Write one item; its line is in the file when this returns.

        Once writing has begun, it is finished, cancelled or not.

        Raises:
          TypeError, ValueError: if the item is not encoded as one line.
          OSError: if the line cannot be written.
        """
        await self._append(_line(self._encode(item)))

    async def write(self, lines: Iterable[str]) -> None:
        """Write lines that are encoded already, each without its line end."""
        await self._append(b"".join(map(_line, lines)))

    async def _append(self, data: bytes) -> None:
        async with self._turn:
            if self._file is not None:
                await trio.to_thread.run_sync(self._file.append, data)
            else:
                await trio.to_thread.run_sync(append_once, self._path, data)


@final
class JsonLinesBatchWriter:
    """A `JsonLinesWriter` for batches, and much faster: a `Consumer` with ``batch`` calls it.

    Members that cannot be encoded fail with `BatchError`; the others are written.

    Args:
      path: the file; it is made if it does not exist, and added to if it does.
      encode: returns the line of an item, text or UTF-8 bytes, without the line end.
    """

    def __init__(self, path: Path, *, encode: Encode = _encode) -> None:
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
          OSError: if the lines cannot be written; then none of them is in the file.
        """
        lines: list[bytes] = []
        errors: dict[int, Exception] = {}
        for index, item in enumerate(items):
            try:
                lines.append(_line(self._encode(item)))
            except Exception as error:
                errors[index] = error
        await self._writer._append(b"".join(lines))
        if errors:
            raise BatchError(errors)


@final
class JsonLinesReader:
    """A source that returns what each line of a JSON Lines file holds, except empty lines.

    If a line cannot be decoded, the source fails with a `ValueError` that names the file
    and the line; the lines before it come through. The file may be a pipe: its lines come
    as soon as they are written.

    Args:
      path: the file; it is opened anew for each run.
      decode: returns the item of a line, which is given without its line end.
    """

    def __init__(self, path: Path, *, decode: Callable[[str], Any] = json.loads) -> None:
        self._path = path
        self._decode = decode

    def __aiter__(self) -> AsyncIterator[Any]:
        """Read the file from its beginning."""
        return _Lines(self._path, self._decode)


@final
class _Lines:
    """Reads a file several lines at a time, because a thread for each line would be slow."""

    def __init__(self, path: Path, decode: Callable[[str], Any]) -> None:
        self._path = path
        self._decode = decode
        self._chunks = Chunks(path)
        self._lines: deque[bytes] = deque()
        self._begun = bytearray()
        self._ended = False
        self._number = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            while self._lines:
                line = self._lines.popleft()
                self._number += 1
                if line.strip():
                    await trio.lowlevel.checkpoint()
                    return self._decoded(line)
            if self._ended:
                await self.aclose()
                raise StopAsyncIteration
            await self._read()

    async def aclose(self) -> None:
        """Close the file."""
        self._chunks.close()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _read(self) -> None:
        chunk = await trio.to_thread.run_sync(
            self._chunks.read, abandon_on_cancel=self._chunks.may_block
        )
        self._ended = not chunk
        self._begun += chunk
        if self._ended or b"\n" in chunk:
            *whole, begun = bytes(self._begun).split(b"\n")
            self._lines.extend(whole)
            self._begun = bytearray(begun)
        if self._ended and self._begun:
            self._lines.append(bytes(self._begun))

    def _decoded(self, line: bytes) -> Any:
        try:
            return self._decode(line.decode().removesuffix("\r"))
        except Exception as error:
            raise ValueError(f"{self._path!s}, line {self._number}: {error}") from error
