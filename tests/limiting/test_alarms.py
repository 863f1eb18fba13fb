"""Alarms: watchers with a high and a low mark."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction

import psutil
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from trio_turnstile import (
    Decision,
    Signal,
    Throttle,
    alarm,
    cpu_alarm,
    load_alarm,
    loop_lag_alarm,
    memory_alarm,
    open_turnstile,
)

FREE = Throttle(down=1, hold=0)


async def test_an_alarm_signals_outside_its_marks(autojump_clock: MockClock) -> None:
    """The alarm asks for down at the high mark, for up at the low mark, and for nothing between."""
    figures = iter([0.5, 0.9, 0.95, 0.7, 0.6, 0.61])
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREE)
        turnstile.watch(alarm(lambda: next(figures), high=0.9, low=0.6, interval=2))
        limits = []
        for _ in range(6):
            await trio.sleep(2)
            limits.append(api.total_tokens)
            await trio.lowlevel.checkpoint()
        assert [d.signal for d in api.decisions] == [
            Signal.UP,
            Signal.DOWN,
            Signal.DOWN,
            Signal.UP,
        ]
    assert api.decisions[-1].after == 9


async def test_an_alarm_may_be_for_one_limiter(autojump_clock: MockClock) -> None:
    """An alarm for one limiter does not move the others."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREE)
        db = turnstile.limiter("db", 10, throttle=FREE)
        turnstile.watch(alarm(lambda: 1.0, high=0.9, low=0.5, limiter="api"))
        await trio.sleep(3.5)
        assert (api.total_tokens, db.total_tokens) == (7, 10)


async def test_an_alarm_for_a_limiter_that_was_closed_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The turnstile and the alarm go on, because a new limiter may get the name."""
    async with open_turnstile() as turnstile:
        turnstile.watch(alarm(lambda: 1.0, high=0.9, low=0.5, limiter="api"))
        await trio.sleep(1.5)
        api = turnstile.limiter("api", 10, throttle=FREE)
        await trio.sleep(1)
        assert api.total_tokens == 9
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_turnstile.turnstile", logging.WARNING)
    assert record.message == "signal down dropped: no limiter is named 'api'; there are: none"


async def test_loop_lag_is_seen() -> None:
    """The alarm signals when a task computes for a long time without a checkpoint."""
    decisions: list[Decision] = []

    def note(event: object) -> None:
        if isinstance(event, Decision):
            decisions.append(event)

    async with open_turnstile(observers=[note]) as turnstile:
        turnstile.limiter("api", 10, throttle=FREE)
        turnstile.watch(loop_lag_alarm(high=0.02, low=0, interval=0.001))
        with trio.fail_after(30):
            while not any(d.signal is Signal.DOWN for d in decisions):
                time.sleep(0.05)  # noqa: ASYNC251 (the test is about noticing this)
                await trio.sleep(0.002)


@pytest.mark.parametrize("make", [cpu_alarm, memory_alarm, load_alarm])
async def test_the_usual_figures_can_be_measured(make: object, autojump_clock: MockClock) -> None:
    """The usual measures give figures here: marks that all of them exceed bring signals."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREE)
        turnstile.watch(make(high=10_000, low=9_999, interval=1))  # type: ignore[operator]
        await trio.sleep(3.5)
        assert {decision.signal for decision in api.decisions} == {Signal.UP}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"high": 0.5, "low": 0.5}, ValueError, "low must be below high: 0.5 >= 0.5"),
        ({"high": "x", "low": 0}, TypeError, "high must be a number, not 'x'"),
        ({"high": 1, "low": -1}, ValueError, "low must be 0 or more, not -1"),
        ({"high": 1, "low": 0, "interval": 0}, ValueError, "interval must be more than 0"),
    ],
)
def test_bad_values_are_named(
    options: dict[str, float], error: type[Exception], message: str
) -> None:
    """A bad mark or interval gets an error that names it."""
    with pytest.raises(error, match=message):
        loop_lag_alarm(**options)  # type: ignore[arg-type]


class Processors:
    """A stand-in for psutil: busy for the first ten seconds, and then idle.

    As psutil does, it reports the use since it was last asked, or 0 if that was just now.
    """

    def __init__(self) -> None:
        self.asked_at = 0.0

    def cpu_percent(self) -> float:
        since, now = self.asked_at, trio.current_time()
        self.asked_at = now
        busy = max(0.0, min(now, 10.0) - since)
        return 100 * busy / (now - since) if now > since else 0.0


async def test_cpu_alarms_do_not_take_the_use_from_each_other(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alarm measures over its own interval, even if two ask at the same instant."""
    monkeypatch.setattr(psutil, "cpu_percent", Processors().cpu_percent)
    async with open_turnstile() as turnstile:
        names = ("one", "two", "often")
        limiters = [turnstile.limiter(name, 10, throttle=FREE) for name in names]
        for name, interval in zip(names, (6.0, 6.0, 0.7), strict=True):
            turnstile.watch(cpu_alarm(high=0.9, low=0.5, interval=interval, limiter=name))
        await trio.sleep(18.5)
    # 0 to 6 s: all. 6 to 12 s: two thirds, so there is no signal. 12 to 18 s: none.
    for limiter in limiters[:2]:
        assert [d.signal for d in limiter.decisions] == [Signal.DOWN, Signal.UP]
    assert Signal.DOWN in {d.signal for d in limiters[2].decisions}


@pytest.mark.parametrize("make", [cpu_alarm, memory_alarm])
def test_an_alarm_without_psutil_says_what_to_install(
    make: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra, and says how to install it from a clone."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    message = (
        rf"^{make.__name__} needs psutil: install the extra trio-turnstile\[alarms\], that is, "
        r"pip install '\.\[alarms\]' in the clone"
    )
    with pytest.raises(ModuleNotFoundError, match=message):
        make()


async def measure_async() -> float:
    return 1.0


@pytest.mark.parametrize(
    ("measure", "options", "message"),
    [
        (5, {}, "measure must be a function that returns a number, not 5"),
        (measure_async, {}, "measure must not be async: .*measure_async.*; write a watcher"),
        (lambda: 1, {"interval": "1"}, "interval must be a number of seconds, not '1'"),
        (lambda: 1, {"limiter": 3}, "limiter must be the name of a limiter or None, not 3"),
    ],
)
def test_a_bad_argument_of_an_alarm_is_named_where_it_is_given(
    measure: object, options: dict[str, object], message: str
) -> None:
    """A bad argument is named when the alarm is made, not when it first measures."""
    with pytest.raises(TypeError, match=message):
        alarm(measure, high=2, low=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "error"),
    [("x", TypeError), (None, TypeError), (cpu_alarm, TypeError), (math.nan, ValueError)],
)
async def test_a_measure_that_returns_no_number_is_named(
    value: object, error: type[Exception], autojump_clock: MockClock
) -> None:
    """The error says what the measure returned; the alarm does not die unnoticed."""

    def depth() -> object:
        return value

    with pytest.RaisesGroup(
        pytest.RaisesExc(error, match=rf"needs a number, but .*depth.* returned {value!r}")
    ):
        async with open_turnstile() as turnstile:
            turnstile.watch(alarm(depth, high=2, low=1))  # type: ignore[arg-type]
            await trio.sleep(5)


async def test_a_measure_may_return_whatever_is_a_number(autojump_clock: MockClock) -> None:
    """A measure may return a bool, or a number of another library."""
    figures: Iterator[float] = iter([True, Fraction(5, 2), Decimal("2.5")])  # type: ignore[list-item]
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=FREE)
        turnstile.watch(alarm(lambda: next(figures), high=2, low=1))
        await trio.sleep(3.5)
    assert [d.signal for d in api.decisions] == [Signal.UP, Signal.DOWN, Signal.DOWN]
