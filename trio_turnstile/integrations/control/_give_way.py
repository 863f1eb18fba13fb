"""`GiveWay`: other threads get a turn beside a trio run that is never idle.

trio's loop lets go of the interpreter whenever it looks for input and output, for some
microseconds. A thread that waits for the interpreter is woken by that, comes too late, and waits
again. It would ask for the interpreter only if it was left in peace for five milliseconds. So
the server got a turn sixteen times a second beside a pipeline that only computes, and was woken
six thousand times: 4 % of a processor, and twenty pages that were seconds behind. Now it takes
1.2 %, and they are not.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, sleep
from typing import final

import trio

EVERY = 0.01
"""Seconds after which other threads get a turn."""

PAUSE = 0.000_02
"""Seconds, so that a thread that waits is awake in time. The system makes about 0.0001 of it."""


@final
class GiveWay(trio.abc.Instrument):
    """Pauses a trio run for a moment, from time to time, as long as it is never idle.

    Args:
      clock: tells the time.
      pause: pauses the thread, and lets go of the interpreter meanwhile.
    """

    def __init__(
        self, clock: Callable[[], float] = perf_counter, pause: Callable[[float], None] = sleep
    ) -> None:
        self._clock = clock
        self._pause = pause
        self._last = clock()

    def before_io_wait(self, timeout: float) -> None:
        """Pause, if the loop is not going to, and has not for a while."""
        now = self._clock()
        if timeout <= 0:
            if now - self._last < EVERY:
                return
            self._pause(PAUSE)
        self._last = now
