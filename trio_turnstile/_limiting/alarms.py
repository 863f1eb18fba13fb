"""Alarms: watchers that measure one figure and signal when it leaves its marks.

An alarm measures every ``interval`` seconds. At or above the high mark it asks for a step
down, at or below the low mark for a step up. Between the marks it sends nothing, so that
a figure that hovers around one mark does not move the limit back and forth (hysteresis).
The `Throttle` of a limiter decides how fast the limit follows.

Any async function that takes a turnstile can be a watcher; these are the usual ones.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from types import ModuleType
from typing import SupportsFloat, final

import attrs
import trio
from trio.lowlevel import RunVar

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
            raise ValueError(f"low must be below high: {self.low} >= {self.high}")

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
      TypeError, ValueError: if an argument has a wrong type or value.

    Error handling:
      If ``measure`` returns something that is not a number, the watcher raises `TypeError`,
      and for NaN `ValueError`: see `Turnstile.watch`.
    """
    if not callable(measure):
        raise TypeError(f"measure must be a function that returns a number, not {measure!r}")
    if inspect.iscoroutinefunction(measure):
        raise TypeError(f"measure must not be async: {measure!r}; write a watcher instead")

    async def measure_later() -> float:
        await trio.sleep(interval)
        return _figure(measure)

    return _alarm(measure_later, Marks(high, low), interval, limiter)


def _figure(measure: Callable[[], float]) -> float:
    value: object = measure()
    if not isinstance(value, SupportsFloat):
        raise TypeError(f"an alarm needs a number, but {measure!r} returned {value!r}")
    figure = float(value)
    if math.isnan(figure):
        raise ValueError(f"an alarm needs a number, but {measure!r} returned {value!r}")
    return figure


def cpu_alarm(
    *, high: float = 0.90, low: float = 0.60, interval: float = 5.0, limiter: str | None = None
) -> Watcher:
    """Return a watcher of CPU use, as a share from 0 to 1 of all processors.

    It measures the use since its own last measurement, whatever other alarms measure.
    Needs psutil, and raises `ModuleNotFoundError` without it. Arguments as for `alarm`.
    """
    psutil = _import_psutil("cpu_alarm")

    async def measure() -> float:
        meter = _CpuMeter.of_this_run(psutil)
        start, busy = trio.current_time(), meter.busy()
        await trio.sleep(interval)
        return (meter.busy() - busy) / (trio.current_time() - start)

    return _alarm(measure, Marks(high, low), interval, limiter)


@final
class _CpuMeter:
    """How long the processors have been busy, on the clock of a trio run.

    psutil returns the use since anybody last asked, so two alarms that both asked it would
    spoil each other's figures. All alarms of a run ask this meter instead.
    """

    def __init__(self, psutil: ModuleType) -> None:
        self._percent: Callable[[], float] = psutil.cpu_percent
        self._percent()  # the next call returns the use since now
        self._asked_at, self._busy = trio.current_time(), 0.0

    @classmethod
    def of_this_run(cls, psutil: ModuleType) -> _CpuMeter:
        """Return the one meter of the current run."""
        try:
            return _METER.get()
        except LookupError:
            _METER.set(cls(psutil))
            return _METER.get()

    def busy(self) -> float:
        """Return for how many seconds all processors were busy; half of them count half."""
        now = trio.current_time()
        if now > self._asked_at:
            self._busy += self._percent() / 100 * (now - self._asked_at)
            self._asked_at = now
        return self._busy


_METER: RunVar[_CpuMeter] = RunVar("trio_turnstile cpu meter")


def memory_alarm(
    *, high: float = 0.90, low: float = 0.75, interval: float = 5.0, limiter: str | None = None
) -> Watcher:
    """Return a watcher of memory use, as a share from 0 to 1 of all memory.

    Needs psutil, and raises `ModuleNotFoundError` without it. Arguments as for `alarm`.
    """
    psutil = _import_psutil("memory_alarm")

    def measure() -> float:
        percent: float = psutil.virtual_memory().percent
        return percent / 100

    return alarm(measure, high=high, low=low, interval=interval, limiter=limiter)


def load_alarm(
    *, high: float = 1.5, low: float = 0.9, interval: float = 10.0, limiter: str | None = None
) -> Watcher:
    """Return a watcher of the system load: running and waiting processes per processor.

    It uses the one-minute load average, so it reacts slowly. Not available on Windows.
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
    if not isinstance(limiter, str | None):
        raise TypeError(f"limiter must be the name of a limiter or None, not {limiter!r}")

    async def watcher(turnstile: Turnstile) -> None:
        while True:
            signal = marks.signal(await measure())
            if signal is not None:
                # Not `Turnstile.signal`, which would raise if the limiter has been closed,
                # and so end the turnstile.
                turnstile._post_signal(signal, limiter)

    return watcher


def _import_psutil(who: str) -> ModuleType:
    try:
        return import_module("psutil")
    except ImportError:
        raise ModuleNotFoundError(
            f"{who} needs psutil: install the extra trio-turnstile[alarms], that is, "
            "pip install '.[alarms]' in the clone, or pip install psutil",
            name="psutil",
        ) from None
