"""Printing the outputs of operations, one operation at a time.

Printing waits for the reader of our output, for example a pager, so it has its own task and
thread. No operation starts while many outputs wait to be printed: this is the back-pressure
from the reader to the commands.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol, TypeVar, final

import trio
from trio.lowlevel import checkpoint

from ._output import write_all
from ._printout import Printable, Printout
from ._threads import in_thread

T = TypeVar("T")

MOST_WAITING = 32
"""While the outputs of this many operations wait to be printed, no operation starts."""


class Screen(Protocol):
    """Something that draws at the bottom of the terminal and must give way to output."""

    def hide(self) -> None:
        """Draw nothing until `show`, while others write to the terminal."""

    def flush(self) -> None:
        """Wait until the drawing is hidden."""

    def show(self, *, mid_line: bool) -> None:
        """Draw again; ``mid_line`` says whether others have left a line unfinished."""


class Order(Protocol):
    """The order in which outputs are printed."""

    @property
    def held(self) -> int:
        """How many outputs are held in memory or in files of their own."""
        ...

    def is_turn(self, seq: int) -> bool:
        """Return whether output of a running operation may be printed."""
        ...

    def put(self, printout: Printout) -> Iterator[Printout]:
        """Take the output of an operation that has ended; yield those whose turn has come."""
        ...

    def rest(self) -> Iterator[Printout]:
        """Yield the outputs that still wait for their turn, at the end of the run."""
        ...


@final
class AsTheyEnd:
    """The order in which operations end."""

    held = 0

    def is_turn(self, seq: int) -> bool:
        """Return ``True``."""
        return True

    def put(self, printout: Printout) -> Iterator[Printout]:
        """Yield the output at once."""
        yield printout

    def rest(self) -> Iterator[Printout]:
        """Yield nothing."""
        yield from ()


@final
class Printer:
    """Prints the outputs of operations, one operation at a time.

    Args:
      screen: is hidden while output is printed.
      order: the order of the outputs.
    """

    def __init__(self, screen: Screen, order: Order) -> None:
        self.ended = trio.Event()
        """Set by `end`."""
        self._screen = screen
        self._order = order
        self._lost = False
        self._put, self._waiting = trio.open_memory_channel[Printable](math.inf)
        self._room = trio.lowlevel.ParkingLot()

    async def wait_for_room(self) -> None:
        """Wait until fewer than `MOST_WAITING` outputs wait to be printed."""
        await checkpoint()
        while self._put.statistics().current_buffer_used + self._order.held >= MOST_WAITING:
            await self._room.park()

    def put(self, printout: Printout) -> None:
        """Queue the output of an operation that has ended, to be printed in its turn."""
        self._enqueue(self._order.put(printout))

    def send(self, printable: Printable) -> None:
        """Queue something to be printed after everything that waits."""
        self._put.send_nowait(printable)

    def end(self) -> None:
        """Let `run` return once everything is printed."""
        self._enqueue(self._order.rest())
        self._put.close()
        self.ended.set()

    async def run(self, on_lost: Callable[[OSError], object]) -> None:
        """Print until `end` is called and nothing is left.

        Args:
          on_lost: called once, with the reason, if standard output cannot be written any more.
            The rest of standard output is dropped; standard error is still printed.

        Cancellation:
          Drops everything that has not been printed.
        """
        try:
            async for printable in self._waiting:
                self._room.unpark()
                mid_line = _stops_in_mid_line(printable)
                self._screen.hide()
                await self._print(printable, on_lost)
                self._screen.show(mid_line=mid_line)
        finally:
            for printable in _left_in(self._waiting):
                printable.close()

    def _enqueue(self, printouts: Iterator[Printout]) -> None:
        for printout in printouts:
            if printout.written:
                self._put.send_nowait(printout)
            else:
                printout.close()
        self._room.unpark()

    async def _print(self, printable: Printable, on_lost: Callable[[OSError], object]) -> None:
        error = await in_thread(_print, printable, self._lost, self._screen.flush)
        printable.note_printed()
        if error is not None:
            self._lost = True
            on_lost(error)


def _print(
    printable: Printable, stderr_only: bool, clear_screen: Callable[[], object]
) -> OSError | None:
    lost: OSError | None = None
    if any(os.isatty(fd) for fd in printable.written):
        clear_screen()
    try:
        if not stderr_only:
            _write(1, printable)
    except OSError as error:
        lost = error
    with suppress(OSError):  # there is nowhere left to report it
        _write(2, printable)
    printable.close()  # here, since a cancelled run abandons this thread
    return lost


def _write(fd: int, printable: Printable) -> None:
    for data in printable.pieces(fd):
        write_all(fd, data)


def _left_in(channel: trio.MemoryReceiveChannel[T]) -> Iterator[T]:
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            yield channel.receive_nowait()


def _stops_in_mid_line(printable: Printable) -> bool:
    shown = [fd for fd in printable.written if os.isatty(fd)]
    return bool(shown) and printable.last_byte(shown[-1]) != b"\n"
