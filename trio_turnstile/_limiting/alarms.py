"""Alarms: watchers that measure one figure and signal when it leaves its marks.

An alarm measures every ``interval`` seconds. At or above the high mark it asks for a step
down, at or below the low mark for a step up. Between the marks it sends nothing, so that
a figure that hovers around one mark does not move the limit back and forth (hysteresis).
The `Throttle` of a limiter decides how fast the limit follows.

Any async function that takes a turnstile can be a watcher; these are the usual ones.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import final

import attrs
import trio

from trio_turnstile._util import check_number, check_seconds

from .events import Signal
from .turnstile import Turnstile, Watcher


@final
@attrs.frozen
class Marks:
    """The marks between which a figure should stay."""

    high: float
    low: float

    def __attrs_post_init__(self) -> None:
        check_number("high", self.high)
        check_number("low", self.low)
        if self.low >= self.high:
            raise ValueError(f"low must be under high: {self.low} >= {self.high}")

    def signal(self, value: float) -> Signal | None:
        """Return the signal to send at ``value``; ``None`` for none."""
        if value >= self.high:
            return Signal.DOWN
        return Signal.UP if value <= self.low else None


def alarm(
    measure: Callable[[], float],
    *,
    high: float,
    low: float,
    interval: float = 1.0,
    limiter: str | None = None,
) -> Watcher:
    """Return a watcher that measures a figure of your own.

    Args:
      measure: returns the figure; it must not block.
      high: ask for a step down at this figure or above.
      low: ask for a step up at this figure or below.
      interval: seconds between two measurements.
      limiter: the name of the limiter to signal; ``None`` for all. While there is no
        limiter of that name, signals are logged and dropped.

    Raises:
      TypeError, ValueError: if a mark or the interval has a wrong type or value.
    """

    async def measure_later() -> float:
        await trio.sleep(interval)
        return measure()

    return _alarm(measure_later, Marks(high, low), interval, limiter)


def cpu_alarm(
    *, high: float = 0.90, low: float = 0.60, interval: float = 5.0, limiter: str | None = None
) -> Watcher:
    """Return a watcher of CPU use, as a share from 0 to 1 of all processors.

    Needs psutil: ``pip install 'trio-turnstile[alarms]'``. Arguments as for `alarm`.
    """
    import psutil

    psutil.cpu_percent()  # what it returns next is the use since now

    def measure() -> float:
        return psutil.cpu_percent() / 100

    return alarm(measure, high=high, low=low, interval=interval, limiter=limiter)


def memory_alarm(
    *, high: float = 0.90, low: float = 0.75, interval: float = 5.0, limiter: str | None = None
) -> Watcher:
    """Return a watcher of memory use, as a share from 0 to 1 of all memory.

    Needs psutil: ``pip install 'trio-turnstile[alarms]'``. Arguments as for `alarm`.
    """
    import psutil

    def measure() -> float:
        return psutil.virtual_memory().percent / 100

    return alarm(measure, high=high, low=low, interval=interval, limiter=limiter)


def load_alarm(
    *, high: float = 1.5, low: float = 0.9, interval: float = 10.0, limiter: str | None = None
) -> Watcher:
    """Return a watcher of the system load: running and waiting processes per processor.

    The one-minute load average, so it reacts slowly. Not available on Windows.
    Arguments as for `alarm`.
    """
    processors = os.cpu_count() or 1

    def measure() -> float:
        return os.getloadavg()[0] / processors

    return alarm(measure, high=high, low=low, interval=interval, limiter=limiter)


def loop_lag_alarm(
    *, high: float = 0.1, low: float = 0.02, interval: float = 0.5, limiter: str | None = None
) -> Watcher:
    """Return a watcher of the lag of the event loop, in seconds.

    The lag is how much later than asked a sleeping task wakes, because other tasks of
    this run compute without a checkpoint. Arguments as for `alarm`.
    """

    async def measure() -> float:
        wake_at = trio.current_time() + interval
        await trio.sleep_until(wake_at)
        return trio.current_time() - wake_at

    return _alarm(measure, Marks(high, low), interval, limiter)


def _alarm(
    measure: Callable[[], Awaitable[float]], marks: Marks, interval: float, limiter: str | None
) -> Watcher:
    check_seconds("interval", interval, positive=True)

    async def watcher(turnstile: Turnstile) -> None:
        while True:
            signal = marks.signal(await measure())
            if signal is not None:
                # Not `Turnstile.signal`: that the limiter was closed is no reason to end
                # the turnstile.
                turnstile._post_signal(signal, limiter)

    return watcher
