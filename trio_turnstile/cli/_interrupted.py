"""`Interrupted`: interrupted operations are cleaned up before anything else begins."""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import checkpoint


@final
class Interrupted:
    """Counts the operations that the kill of an earlier run interrupted, until they are clean.

    This cannot deadlock: an operation holds no token while it is cleaned up or waits here.
    """

    def __init__(self) -> None:
        self._left = 0
        self._given_up = False
        self._changed = trio.Event()

    def expect(self) -> None:
        """Count an interrupted operation that the run takes up."""
        self._left += 1

    def cleaned(self) -> None:
        """Take note that one of them is cleaned up, or needs no clean-up."""
        self._left -= 1
        self._wake()

    def give_up(self) -> None:
        """End the wait: the run stops, so some of them may never begin."""
        self._given_up = True
        self._wake()

    async def wait_all(self) -> None:
        """Wait until all expected operations are cleaned up."""
        await checkpoint()
        while self._left and not self._given_up:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
