"""Alarms: monitors that watch one figure, and signal when it leaves its marks.

An alarm looks every ``interval`` seconds. At the high mark or over it, it asks for
a step down; at the low mark or under it, for a step up; between them it is silent,
so that a figure that hovers about one mark moves nothing to and fro. How fast the
limit follows is the affair of its `Throttle`.

Any async function that sends signals is a monitor; these are the usual ones.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import final

import attrs
import trio

from trio_turnstile._util import check_number, check_seconds

from .events import Signal
from .turnstile import SignalChannel, Watcher


@final
@attrs.frozen
class Marks:
    """Between which marks a figure is to stay."""

    high: float
    low: float

    def __attrs_post_init__(self) -> None:
        check_number("high", self.high)
        check_number("low", self.low)
        if self.low >= self.high:
            raise ValueError(f"low must be under high: {self.low} >= {self.high}")

    def signal(self, value: float) -> Signal | None:
        """Return what to ask for at ``value``; ``None`` for nothing."""
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
    """Return a monitor that measures a figure of your own.

    Args:
      measure: returns the figure; it must not block.
      high: at this or over it, ask for a step down.
      low: at this or under it, ask for a step up.
      interval: seconds between two looks.
      limiter: the name of the limiter to signal; ``None`` for all.

    Raises:
      TypeError, ValueError: for marks or an interval of a wrong type or value.
    """

    async def measure_later() -> float:
        await trio.sleep(interval)
        return measure()

    return _alarm(measure_later, Marks(high, low), interval, limiter)


def cpu_alarm(
    *, high: float = 0.90, low: float = 0.60, interval: float = 5.0, limiter: str | None = None
) -> Watcher:
    """Return a monitor of the processors' use, as a share from 0 to 1 of all of them.

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
    """Return a monitor of the memory in use, as a share from 0 to 1 of all there is.

    Needs psutil: ``pip install 'trio-turnstile[alarms]'``. Arguments as for `alarm`.
    """
    import psutil

    def measure() -> float:
        return psutil.virtual_memory().percent / 100

    return alarm(measure, high=high, low=low, interval=interval, limiter=limiter)


def load_alarm(
    *, high: float = 1.5, low: float = 0.9, interval: float = 10.0, limiter: str | None = None
) -> Watcher:
    """Return a monitor of the load: tasks that run or want to, for each processor.

    It is the system's average over the last minute, and slow to follow. Not to be
    had on Windows. Arguments as for `alarm`.
    """
    processors = os.cpu_count() or 1

    def measure() -> float:
        return os.getloadavg()[0] / processors

    return alarm(measure, high=high, low=low, interval=interval, limiter=limiter)


def loop_lag_alarm(
    *, high: float = 0.1, low: float = 0.02, interval: float = 0.5, limiter: str | None = None
) -> Watcher:
    """Return a monitor of the event loop's own delay, in seconds.

    It is how much later than asked a sleeping task wakes: what every task of this
    run waits for those that compute. Arguments as for `alarm`.
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

    async def monitor(signals: SignalChannel) -> None:
        while True:
            signal = marks.signal(await measure())
            if signal is not None:
                await signals.send((limiter, signal))

    return monitor
