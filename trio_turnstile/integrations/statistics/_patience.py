"""`Patience`: waits for a thread for as long as it makes progress."""

from __future__ import annotations

from functools import partial
from threading import Timer
from types import TracebackType
from typing import final

import trio


@final
class Patience:
    """Shields a block from cancellation, until there is no progress for a number of seconds.

    These are seconds of real time, because the block waits for a thread. With a clock that jumps
    while all tasks wait, as in tests, the thread would have no time at all.

    Args:
      seconds: after these, the block is cancelled, unless `renew` is called.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = trio.CancelScope(shield=True)
        self._give_up = partial(
            trio.lowlevel.current_trio_token().run_sync_soon, self._scope.cancel
        )
        self._timer = self._start()

    def renew(self) -> None:
        """Begin the time again."""
        self._timer.cancel()
        self._timer = self._start()

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._scope.__exit__(kind, error, traceback)

    def _start(self) -> Timer:
        timer = Timer(self._seconds, self._give_up)
        timer.daemon = True
        timer.start()
        return timer
