"""What is printed of one operation: all at its end, or whole lines as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, final

import attrs

from ._output import Stream


class Output(Protocol):
    """What an operation has written to one of its output streams."""

    @property
    def left(self) -> int:
        """How many bytes there are to print."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield them, in pieces."""
        ...

    def last_byte(self) -> bytes:
        """Return the last of them, if there is one."""
        ...

    def close(self) -> None:
        """Drop them."""


class Printable(Protocol):
    """Something to print to standard output, standard error or both."""

    @property
    def written(self) -> list[int]:
        """The descriptors, of 1 and 2, for which there is something."""
        ...

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield what goes to a descriptor, in pieces."""
        ...

    def last_byte(self, fd: int) -> bytes:
        """Return the last byte that goes to a descriptor, if there is one."""
        ...

    def note_printed(self) -> None:
        """Take note that it is printed."""

    def close(self) -> None:
        """Drop it; may be called in any thread."""


@final
@attrs.frozen(eq=False)
class Printout:
    """What is printed at the end of an operation."""

    seq: int
    """The number of its input, from 1."""
    outputs: Sequence[Output]
    """Its standard output and its standard error."""

    @property
    def written(self) -> list[int]:
        """The descriptors, of 1 and 2, for which there is something."""
        return [fd for fd, output in enumerate(self.outputs, 1) if output.left]

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield what goes to a descriptor, in pieces."""
        for output in self.outputs[fd - 1 : fd]:
            yield from output.pieces()

    def last_byte(self, fd: int) -> bytes:
        """Return the last byte that goes to a descriptor, if there is one."""
        return self.outputs[fd - 1].last_byte()

    def with_outputs(self, outputs: Sequence[Output]) -> Printout:
        """Return the same with outputs that are kept elsewhere."""
        return attrs.evolve(self, outputs=outputs)

    def note_printed(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Drop the output."""
        for output in self.outputs:
            output.close()


@final
@attrs.frozen(eq=False)
class Lines:
    """Whole lines that a running operation has written to one of its streams."""

    stream: Stream
    """Where they come from."""
    fd: int
    """The descriptor that they go to."""
    end: int
    """Where they end in the stream."""
    then: Callable[[], object]
    """Called when they were printed."""

    @property
    def written(self) -> list[int]:
        """The descriptor."""
        return [self.fd]

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield the lines, in pieces."""
        if fd == self.fd:
            yield from self.stream.pieces(self.end)

    def last_byte(self, fd: int) -> bytes:
        """Return a newline."""
        return b"\n"

    def note_printed(self) -> None:
        """Take note that they are printed."""
        self.stream.mark_printed(self.end)
        self.then()

    def close(self) -> None:
        """Do nothing: the operation goes on."""
