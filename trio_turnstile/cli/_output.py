"""What commands write: collected for each operation, and printed whole, never mixed.

A command writes into pipes. Files in their place would be simpler, but a command that
opens ``/dev/stderr`` would cut such a file off at its start. What comes out of a pipe
is kept in memory, or in a temporary file where it is much.

Printing waits for whatever reads our output, for example a pager, so it has a task
and a thread of its own. Operations wait to begin while much is still to be printed.
"""

from __future__ import annotations

import math
import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Protocol, TypeVar, final

import trio
from trio.lowlevel import checkpoint

T = TypeVar("T")

KEPT_IN_MEMORY = 1 << 18
"""How many bytes of a stream to keep in memory; more go to a temporary file."""

MOST_WAITING = 32
"""How much output, in operations, may wait to be printed before none may begin."""

_in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)


@final
class Stream:
    """One output stream of an operation: a pipe to write to, and what came out of it."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._file = SpooledTemporaryFile(KEPT_IN_MEMORY)  # noqa: SIM115 (see `close`)
        self.size = 0
        self._error: OSError | None = None

    async def collect(self) -> None:
        """Take in what is written, until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._read_end)
            self.take_in()

    def take_in(self) -> None:
        """Take in what is in the pipe now."""
        # In one look, at more than a pipe holds: with a fast writer no look is the last.
        with suppress(BlockingIOError):
            self._keep(os.read(self._read_end, 1 << 20))

    def check(self) -> None:
        """Raise the `OSError` because of which something could not be kept, if there is one."""
        if self._error is not None:
            raise self._error

    def tail(self, start: int, most: int) -> bytes:
        """Return the end of what came since ``start``, at most so many bytes."""
        self._file.seek(max(start, self.size - most))
        return self._file.read()

    def clear(self) -> None:
        """Forget what was taken in."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def copy_to(self, fd: int) -> None:
        """Write all that was taken in to ``fd``, waiting as long as that takes."""
        self._file.seek(0)
        while data := self._file.read(1 << 16):
            write_all(fd, data)

    def close_pipe(self) -> None:
        """Close the pipe, and keep what was taken in."""
        os.close(self._read_end)
        os.close(self.write_end)

    def close(self) -> None:
        """Let go of what was taken in."""
        self._file.close()

    def _keep(self, data: bytes) -> None:
        if self._error is not None:
            return
        try:
            self._file.write(data)
            self.size += len(data)
        except OSError as error:  # a full disk; the command had better not stop half-way
            self._error = error


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``, whether or not somebody made ``fd`` non-blocking."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            select.select([], [fd], [])


class Screen(Protocol):
    """What shows something at the bottom of a terminal, where output is to come."""

    def hide(self) -> None:
        """Leave the terminal to others, until `show`."""

    def show(self, *, mid_line: bool) -> None:
        """Take the terminal back, which others may have left in the middle of a line."""


@final
class Printer:
    """Prints what operations wrote, one operation at a time.

    Args:
      screen: is asked to keep out of the way.
      on_lost: is told why standard output can take no more; the rest is dropped.
    """

    def __init__(self, screen: Screen, on_lost: Callable[[OSError], object]) -> None:
        self._screen = screen
        self._on_lost = on_lost
        self._lost = False
        self._put, self._waiting = trio.open_memory_channel[Sequence[Stream]](math.inf)
        self._room = trio.lowlevel.ParkingLot()

    async def wait_for_room(self) -> None:
        """Wait until not much waits to be printed."""
        await checkpoint()
        while self._put.statistics().current_buffer_used >= MOST_WAITING:
            await self._room.park()

    def put(self, streams: Sequence[Stream]) -> None:
        """Have what is in the streams, standard output and error, printed and let go of."""
        if any(stream.size for stream in streams):
            self._put.send_nowait(streams)
        else:
            _close(streams)

    def end(self) -> None:
        """Let `run` end when all is printed."""
        self._put.close()

    async def run(self) -> None:
        """Print until `end` is called and nothing is left. What a cancellation leaves is lost."""
        try:
            async for streams in self._waiting:
                self._room.unpark()
                mid_line = _stops_in_mid_line(streams)
                self._screen.hide()
                await self._print(streams)
                self._screen.show(mid_line=mid_line)
        finally:
            for streams in _left_in(self._waiting):
                _close(streams)

    async def _print(self, streams: Sequence[Stream]) -> None:
        error = await _in_thread(_print, streams, self._lost)
        if error is not None:
            self._lost = True
            self._on_lost(error)


def _print(streams: Sequence[Stream], errors_alone: bool) -> OSError | None:
    lost: OSError | None = None
    try:
        if not errors_alone:
            streams[0].copy_to(1)
    except OSError as error:
        lost = error
    with suppress(OSError):  # nobody is left to be told
        streams[1].copy_to(2)
    _close(streams)
    return lost


def _close(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.close()


def _left_in(channel: trio.MemoryReceiveChannel[T]) -> Iterator[T]:
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            yield channel.receive_nowait()


def _stops_in_mid_line(streams: Sequence[Stream]) -> bool:
    shown = [stream for fd, stream in enumerate(streams, 1) if stream.size and os.isatty(fd)]
    return bool(shown) and shown[-1].tail(0, 1) != b"\n"
