"""Where the output of operations goes: streams for each, and what comes of them.

`Collected` prints the output of an operation at its end. `LineByLine` prints whole lines as
they come, and `PassedOn` leaves our own standard streams to the commands.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, final

from ._output import OwnDescriptor, Pipe, Stream
from ._printer import Order, Printer
from ._printout import Lines, Printout


class Outlet(Protocol):
    """Where the output of operations goes."""

    def open_streams(self, seq: int) -> Sequence[Pipe]:
        """Return streams for the standard output and the standard error of an operation.

        Raises:
          OSError: if there are no files for them.
        """
        ...

    def finish(self, seq: int) -> None:
        """Take note that an operation has ended, and its streams are closed."""


@final
class Collected:
    """Prints the output of an operation when it has ended."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._running: dict[int, list[Stream]] = {}

    def open_streams(self, seq: int) -> list[Stream]:
        """Return streams that collect."""
        with _all_or_none() as streams:
            while len(streams) < 2:
                streams.append(Stream())
        self._running[seq] = streams
        return streams

    def finish(self, seq: int) -> None:
        """Have the output printed."""
        self._printer.put(Printout(seq, self._running.pop(seq, ())))


@final
class LineByLine:
    """Prints whole lines as soon as they come; those of one operation at a time, if in order.

    Args:
      printer: prints them.
      order: the order of the printer.
    """

    def __init__(self, printer: Printer, order: Order) -> None:
        self._printer = printer
        self._order = order
        self._running: dict[int, list[Stream]] = {}
        self._sent: set[Stream] = set()

    def open_streams(self, seq: int) -> list[Stream]:
        """Return streams that tell of their lines."""
        with _all_or_none() as streams:
            for fd in (1, 2):
                streams.append(Stream(partial(self._print_lines, seq, fd)))
        self._running[seq] = streams
        return streams

    def finish(self, seq: int) -> None:
        """Have the rest printed, and what waited for that."""
        self._printer.put(Printout(seq, self._running.pop(seq, ())))
        for other, theirs in self._running.items():
            for fd, stream in enumerate(theirs, 1):
                self._print_lines(other, fd, stream)

    def _print_lines(self, seq: int, fd: int, stream: Stream) -> None:
        if stream not in self._sent and stream.lines_end and self._order.is_turn(seq):
            self._sent.add(stream)
            again = partial(self._print_more, seq, fd, stream)
            self._printer.send(Lines(stream, fd, stream.lines_end, again))

    def _print_more(self, seq: int, fd: int, stream: Stream) -> None:
        self._sent.discard(stream)
        if seq in self._running:
            self._print_lines(seq, fd, stream)


@final
class PassedOn:
    """Lets the commands write to our own standard output and standard error.

    Args:
      on_lost: called once, with the reason, if our standard output has no reader any more.
        The commands that meet it are ended by SIGPIPE; others need not start.
    """

    def __init__(self, on_lost: Callable[[OSError], object]) -> None:
        self._on_lost = on_lost
        self._lost = False

    def open_streams(self, seq: int) -> list[OwnDescriptor]:
        """Return our own."""
        return [OwnDescriptor(1), OwnDescriptor(2)]

    def finish(self, seq: int) -> None:
        """See whether our standard output still has a reader."""
        if not self._lost and _has_no_reader(1):
            self._lost = True
            self._on_lost(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))


def _has_no_reader(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


@contextmanager
def _all_or_none() -> Iterator[list[Stream]]:
    streams: list[Stream] = []
    try:
        yield streams
    except OSError:
        for stream in streams:
            stream.close_pipe()
        raise
