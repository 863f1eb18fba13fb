"""`Interrupted`: what an earlier run was killed amid is cleaned up before anything is begun."""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import checkpoint


@final
class Interrupted:
    """Counts the operations that an earlier run was killed amid, until they are cleaned up.

    Nothing can deadlock: an operation holds no token while it is cleaned up or waits here.
    """

    def __init__(self) -> None:
        self._left = 0
        self._given_up = False
        self._changed = trio.Event()

    def expect(self) -> None:
        """Say that such an operation is handed over to be run."""
        self._left += 1

    def cleaned(self) -> None:
        """Say that one of them is cleaned up, or needs no clean-up."""
        self._left -= 1
        self._wake()

    def give_up(self) -> None:
        """Wait no more: the run stops, so some of them may not be begun."""
        self._given_up = True
        self._wake()

    async def wait_all(self) -> None:
        """Wait until all that were handed over are cleaned up."""
        await checkpoint()
        while self._left and not self._given_up:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
