"""`Patience`: waits for a thread for as long as it gets on."""

from __future__ import annotations

from functools import partial
from threading import Timer
from types import TracebackType
from typing import final

import trio


@final
class Patience:
    """Shields a block from cancellation, until nothing has got on for so many seconds.

    They are seconds of the world: what is waited for is a thread. On a clock that jumps while all
    tasks wait, as tests have it, the thread would have no time at all.

    Args:
      seconds: after which the block is cancelled, unless `renew` is called.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scope = trio.CancelScope(shield=True)
        self._give_up = partial(
            trio.lowlevel.current_trio_token().run_sync_soon, self._scope.cancel
        )
        self._timer = self._start()

    def renew(self) -> None:
        """Wait for so long again."""
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
