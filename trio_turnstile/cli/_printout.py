"""What is printed of one operation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, final

import attrs


class Output(Protocol):
    """What an operation has written to one of its output streams."""

    @property
    def size(self) -> int:
        """How many bytes there are."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield them, in pieces."""
        ...

    def last_byte(self) -> bytes:
        """Return the last of them, if there is one."""
        ...

    def close(self) -> None:
        """Drop them."""


@final
@attrs.frozen(eq=False)
class Printout:
    """What is printed of one operation."""

    seq: int
    """The number of its input, from 1."""
    outputs: Sequence[Output]
    """Its standard output and its standard error."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to print."""
        return not self.written

    @property
    def written(self) -> list[int]:
        """The descriptors, of 1 and 2, for which there is something."""
        return [fd for fd, output in enumerate(self.outputs, 1) if output.size]

    def pieces(self, fd: int) -> Iterator[bytes]:
        """Yield what goes to a descriptor, in pieces."""
        yield from self.outputs[fd - 1].pieces()

    def last_byte(self, fd: int) -> bytes:
        """Return the last byte that goes to a descriptor, if there is one."""
        return self.outputs[fd - 1].last_byte()

    def with_outputs(self, outputs: Sequence[Output]) -> Printout:
        """Return the same with outputs that are kept elsewhere."""
        return attrs.evolve(self, outputs=outputs)

    def close(self) -> None:
        """Drop the output."""
        for output in self.outputs:
            output.close()
