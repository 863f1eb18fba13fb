"""Where the output of operations goes: the streams of each operation, and how it is printed.

`Collected` prints the output of an operation at its end. `LineByLine` prints whole lines as
they come, and `PassedOn` lets the commands use our own standard streams.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, final

import attrs

from ._label import Label, Labels, Subject
from ._output import OwnDescriptor, Pipe, Stream
from ._printer import Order, Printer
from ._printout import Lines, Printout
from ._results import Results


class Outlet(Protocol):
    """Where the output of operations goes."""

    def open_streams(self, subject: Subject) -> Sequence[Pipe]:
        """Return streams for the standard output and the standard error of an operation.

        Raises:
          OSError: if there are no files for them.
        """
        ...

    def finish(self, place: int) -> None:
        """Take note that an operation has ended, and that its streams are closed."""


@final
class Collected:
    """Prints the output of an operation when it has ended.

    Args:
      printer: prints it.
      labels: make the labels to print with it.
      results: the folders to copy it to, if there are any.
    """

    def __init__(self, printer: Printer, labels: Labels, results: Results | None = None) -> None:
        self._printer = printer
        self._labels = labels
        self._results = results
        self._running: dict[int, Printout] = {}

    def open_streams(self, subject: Subject) -> Sequence[Stream]:
        """Return streams that collect the output."""
        with _all_or_none() as streams:
            for copy in _copies(self._results, subject):
                streams.append(Stream(copy=copy))
        self._running[subject.place] = Printout(self._labels.make(subject), streams)
        return streams

    def finish(self, place: int) -> None:
        """Send the output to the printer."""
        self._printer.put(self._running.pop(place, Printout(Label(place))))


@final
class LineByLine:
    """Prints whole lines as soon as they come; in order, those of one operation at a time.

    Args:
      printer: prints them.
      order: the order of the printer.
      labels: make the labels to print with them.
      results: the folders to copy the output to, if there are any.
    """

    def __init__(
        self, printer: Printer, order: Order, labels: Labels, results: Results | None = None
    ) -> None:
        self._printer = printer
        self._order = order
        self._labels = labels
        self._results = results
        self._running: dict[int, Label] = {}
        self._streams: dict[int, list[Stream]] = {}
        self._sent: set[Stream] = set()

    def open_streams(self, subject: Subject) -> Sequence[Stream]:
        """Return streams that report their lines."""
        with _all_or_none() as streams:
            for fd, copy in enumerate(_copies(self._results, subject), 1):
                streams.append(Stream(partial(self._print_lines, subject.place, fd), copy))
        self._running[subject.place] = self._labels.make(subject)
        self._streams[subject.place] = streams
        self._print_title(subject.place)
        return streams

    def finish(self, place: int) -> None:
        """Send the rest of the output to the printer, and then lines that waited for it."""
        label = self._running.pop(place, Label(place))
        self._printer.put(Printout(label, self._streams.pop(place, ())))
        for other, streams in self._streams.items():
            self._print_title(other)
            for fd, stream in enumerate(streams, 1):
                self._print_lines(other, fd, stream)

    def _print_title(self, place: int) -> None:
        label = self._running[place]
        if label.title and self._order.is_turn(place):
            self._running[place] = attrs.evolve(label, title=b"")
            self._printer.send(Printout(label))

    def _print_lines(self, place: int, fd: int, stream: Stream) -> None:
        if stream not in self._sent and stream.lines_end and self._order.is_turn(place):
            self._sent.add(stream)
            again = partial(self._print_more, place, fd, stream)
            self._printer.send(Lines(self._running[place], fd, stream, stream.lines_end, again))

    def _print_more(self, place: int, fd: int, stream: Stream) -> None:
        self._sent.discard(stream)
        if place in self._running:
            self._print_lines(place, fd, stream)


@final
class PassedOn:
    """Lets the commands write to our own standard output and standard error.

    Args:
      printer: prints the titles, perhaps a moment after a command has started.
      labels: make their titles.
      on_lost: called once, with the reason, if our standard output no longer has a reader.
        SIGPIPE ends the commands that write to it, and no others need to start.
    """

    def __init__(
        self, printer: Printer, labels: Labels, on_lost: Callable[[OSError], object]
    ) -> None:
        self._printer = printer
        self._labels = labels
        self._on_lost = on_lost
        self._lost = False

    def open_streams(self, subject: Subject) -> Sequence[OwnDescriptor]:
        """Return our own standard streams."""
        title = Printout(self._labels.make(subject))
        if title.written:
            self._printer.send(title)
        return [OwnDescriptor(1), OwnDescriptor(2)]

    def finish(self, place: int) -> None:
        """Check whether our standard output still has a reader."""
        if not self._lost and _has_no_reader(1):
            self._lost = True
            self._on_lost(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))


def _copies(results: Results | None, subject: Subject) -> tuple[Path | None, Path | None]:
    if results is None:
        return None, None
    return results.open(subject.seq, subject.given.text)


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
