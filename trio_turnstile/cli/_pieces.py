"""`Pieces`: blocks as the inputs of a run, which commands read from their standard input.

A block is taken when an operation has a slot for it. So memory holds only as many blocks as the
limit allows operations, and whoever writes to our standard input waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, final

from ._columns import Input
from ._inputs import InputError
from ._part import Part
from ._threads import in_thread


@final
class Pieces:
    """The blocks of standard input or of files, each the standard input of one operation.

    Args:
      cut: returns the next block, which is empty or ``None`` if there is none. It runs in
        a thread.
    """

    def __init__(self, cut: Callable[[], bytes | Part | None]) -> None:
        self._cut = cut
        self.taken = 0
        self.total: int | None = None
        self.error: InputError | None = None

    async def read(self) -> None:
        """Do nothing: reading ahead would take memory."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        if self.total is not None:
            raise StopAsyncIteration
        try:
            block = await in_thread(self._cut)
        except OSError as error:
            self.error = error
            raise
        if not block:
            self.total = self.taken
            raise StopAsyncIteration
        self.taken += 1
        name = str(block) if isinstance(block, Part) else str(self.taken)
        return Input(name, (name,), block)
