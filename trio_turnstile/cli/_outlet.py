"""Where the output of operations goes: streams for each, and what comes of them.

`Collected` prints the output of an operation at its end. `LineByLine` prints whole lines as
they come, and `PassedOn` leaves our own standard streams to the commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, final

from ._output import Stream
from ._printer import Order, Printer
from ._printout import Lines, Printout


class Outlet(Protocol):
    """Where the output of operations goes."""

    def open_streams(self, seq: int) -> list[Stream]:
        """Return streams for the standard output and the standard error of an operation.

        Raises:
          OSError: if there are no files for them.
        """
        ...

    def finish(self, seq: int, streams: Sequence[Stream]) -> None:
        """Take over the streams of an operation that has ended."""
        ...


@final
class Collected:
    """Prints the output of an operation when it has ended."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer

    def open_streams(self, seq: int) -> list[Stream]:
        """Return streams that collect."""
        with _all_or_none() as streams:
            while len(streams) < 2:
                streams.append(Stream())
        return streams

    def finish(self, seq: int, streams: Sequence[Stream]) -> None:
        """Have the output printed."""
        self._printer.put(Printout(seq, streams))


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

    def finish(self, seq: int, streams: Sequence[Stream]) -> None:
        """Have the rest printed, and what waited for that."""
        self._running.pop(seq, None)
        self._printer.put(Printout(seq, streams))
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


@contextmanager
def _all_or_none() -> Iterator[list[Stream]]:
    streams: list[Stream] = []
    try:
        yield streams
    except OSError:
        for stream in streams:
            stream.close_pipe()
        raise
