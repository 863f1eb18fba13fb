"""The printed output of one operation: all at its end, or whole lines as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, final

import attrs

from ._label import Label
from ._output import Stream


class Output(Protocol):
    """The bytes that an operation has written to one of its output streams."""

    @property
    def left(self) -> int:
        """How many bytes there are to print."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, in pieces."""
        ...

    def last_byte(self) -> bytes:
        """Return the last byte, if there is one."""
        ...

    def close(self) -> None:
        """Drop the bytes."""


class Printable(Protocol):
    """Something to print to standard output, standard error or both."""

    @property
    def written(self) -> list[int]:
        """The descriptors (1, 2 or both) that there are bytes for."""
        ...

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield the bytes for a descriptor, in pieces."""
        ...

    def last_byte(self, fd: int) -> bytes:
        """Return the last byte for a descriptor, if there is one."""
        ...

    def note_printed(self) -> None:
        """Take note that the bytes are printed."""

    def close(self) -> None:
        """Drop the bytes; may be called in any thread."""


@final
@attrs.frozen(eq=False)
class Printout:
    """The output of an operation, printed at its end."""

    label: Label
    """The tag and the title."""
    outputs: Sequence[Output] = ()
    """Its standard output and its standard error; empty to print only the title."""

    @property
    def written(self) -> list[int]:
        """The descriptors (1, 2 or both) that there are bytes for."""
        sizes = [len(self._title(fd)) + self._left(fd) for fd in (1, 2)]
        return [fd for fd, size in enumerate(sizes, 1) if size]

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield the bytes for a descriptor, in pieces."""
        yield self._title(fd)
        for output in self.outputs[fd - 1 : fd]:
            yield from self.label.tagged(output.pieces())

    def last_byte(self, fd: int) -> bytes:
        """Return the last byte for a descriptor, if there is one."""
        return self.outputs[fd - 1].last_byte() if self._left(fd) else self._title(fd)[-1:]

    def with_outputs(self, outputs: Sequence[Output]) -> Printout:
        """Return the same with outputs that are kept elsewhere."""
        return attrs.evolve(self, outputs=outputs)

    def note_printed(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Drop the output."""
        for output in self.outputs:
            output.close()

    def _left(self, fd: int) -> int:
        return sum(output.left for output in self.outputs[fd - 1 : fd])

    def _title(self, fd: int) -> bytes:
        return self.label.title if fd == 1 else b""


@final
@attrs.frozen(eq=False)
class Lines:
    """Whole lines that a running operation has written to one of its streams."""

    label: Label
    """The tag and the title."""
    fd: int
    """The descriptor that they are printed to."""
    stream: Stream
    """The stream that they come from."""
    end: int
    """Where they end in the stream."""
    then: Callable[[], object]
    """Called when they are printed."""

    @property
    def written(self) -> list[int]:
        """The descriptor."""
        return [self.fd]

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield the lines, in pieces."""
        if fd == self.fd:
            yield from self.label.tagged(self.stream.pieces(self.end))

    def last_byte(self, fd: int) -> bytes:
        """Return a newline."""
        return b"\n"

    def note_printed(self) -> None:
        """Take note that they are printed."""
        self.stream.mark_printed(self.end)
        self.then()

    def close(self) -> None:
        """Do nothing: the operation goes on."""
