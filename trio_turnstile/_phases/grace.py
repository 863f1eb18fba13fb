"""`Grace`: shields clean-ups from cancellation, each for a bounded time.

The usual ``with trio.move_on_after(grace, shield=True)`` costs 6 µs, about as much as
the rest of an operation. So the cancel scope that a worker already has becomes a shield
for that time, and one task watches the time of all clean-ups. That costs 2 µs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import unprotected

C = TypeVar("C")


@final
class Grace:
    """How long clean-ups may take, and the task that watches it.

    Args:
      seconds: how long each clean-up may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: dict[trio.CancelScope, float] = {}  # oldest, so soonest, first
        self._watchman = trio.lowlevel.ParkingLot()
        self._watch = trio.CancelScope(shield=True)

    @enable_ki_protection
    async def shield(
        self, scope: trio.CancelScope, cleanup: Callable[[C], Awaitable[object]], argument: C
    ) -> None:
        """Run ``cleanup(argument)`` inside ``scope``, which becomes a shield meanwhile.

        The caller is inside the scope. If the grace runs out, the scope is cancelled, with
        everything inside it.
        """
        self._ends[scope] = trio.current_time() + self.seconds
        if self._watchman:
            self._watchman.unpark()
        scope.shield = True
        try:
            await unprotected(cleanup, argument)
        finally:
            scope.shield = False
            self._ends.pop(scope, None)

    @enable_ki_protection
    async def watch(self) -> None:
        """Cancel the scopes whose grace runs out, until `dismiss` is called."""
        with self._watch:
            while True:
                if not self._ends:
                    await self._watchman.park()
                    continue
                scope, end = next(iter(self._ends.items()))
                await trio.sleep_until(end)
                if self._ends.get(scope) == end:
                    scope.cancel()
                    del self._ends[scope]

    def dismiss(self) -> None:
        """End the watch; no clean-up may be running."""
        self._watch.cancel()
