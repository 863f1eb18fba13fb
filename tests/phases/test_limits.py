"""The limiter of a run of phases: moving it, sharing it, closing it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.phases import Works, account, arriving
from trio_turnstile import (
    Aborted,
    Channels,
    Limiter,
    Retry,
    Scalable,
    Skip,
    Throttle,
    open_turnstile,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


@pytest.mark.parametrize("make", [int, trio.CapacityLimiter, partial(Limiter, "ops")])
async def test_any_limiter_bounds_the_run(autojump_clock: MockClock, make: Any) -> None:
    """A number, trio's limiter and ours bound a run in the same way."""
    report = await run_phases((Works() for _ in range(10)), limiter=make(2))
    assert account(report) == (10, 10, 0, 0)
    assert trio.current_time() == 5


async def test_infinite_limit_runs_all_at_once(autojump_clock: MockClock) -> None:
    """With an infinite limit all operations start at once."""
    report = await run_phases((Works() for _ in range(300)), limiter=Limiter("all", math.inf))
    assert account(report) == (300, 300, 0, 0)
    assert trio.current_time() == 1


async def test_zero_limit_takes_nothing(autojump_clock: MockClock) -> None:
    """A run that starts with a limit of 0 reads nothing, and can be drained."""
    none = Limiter("none", 0, throttle=Throttle(min=0))
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, [Works()], limiter=none))
        await trio.sleep(5)
        assert manager.received == 0
        manager.drain()
    assert account(manager) == (0, 0, 0, 0)


# ---- moving the limit ----


class Starts(Scalable):
    """An operation that records when it starts; by default each works a second longer."""

    def __init__(self, starts: list[float], seconds: float | None = None) -> None:
        self.starts = starts
        self.seconds = seconds

    async def work(self, channels: Channels) -> None:
        self.starts.append(trio.current_time())
        await trio.sleep(len(self.starts) if self.seconds is None else self.seconds)


async def test_raised_limit_is_used_at_once(autojump_clock: MockClock) -> None:
    """A raised limit starts more operations at once, before any running one ends."""
    limiter = Limiter("ops", 2)
    starts: list[float] = []
    operations = [Starts(starts, 10) for _ in range(6)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_phases, operations, limiter=limiter))
        await trio.sleep(3)
        limiter.total_tokens = 5
    assert starts == [0, 0, 3, 3, 3, 10]


async def test_lowered_limit_lets_holders_finish(autojump_clock: MockClock) -> None:
    """A lowered limit stops no running operation, and starts none until there is room."""
    limiter = trio.CapacityLimiter(4)
    starts: list[float] = []
    operations = [Starts(starts) for _ in range(6)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_phases, operations, limiter=limiter))
        await trio.sleep(0.5)
        limiter.total_tokens = 1
    assert starts == [0, 0, 0, 0, 4, 9]


async def test_retuned_to_zero_and_back_loses_nothing(autojump_clock: MockClock) -> None:
    """A run whose limit is 0 for a while pauses, and then completes."""
    limiter = Limiter("ops", 3)
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(run_phases, (Works() for _ in range(12)), limiter=limiter)
        )
        await trio.sleep(1.5)
        limiter.total_tokens = 0
        await trio.sleep(10)
        assert manager.completed == 6
        assert_conserved(manager)
        limiter.total_tokens = 3
    assert account(manager) == (12, 12, 0, 0)
    assert trio.current_time() == 13.5


async def test_signals_retune_a_run(autojump_clock: MockClock) -> None:
    """A run with a limiter of a turnstile follows its signals."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("ops", 4, throttle=Throttle(down=3, hold=0))
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(
                partial(run_phases, (Works() for _ in range(8)), limiter=limiter)
            )
            await trio.sleep(0.5)
            limiter.down()
    assert account(manager) == (8, 8, 0, 0)
    assert trio.current_time() == 5


# ---- sharing the limiter ----


async def test_token_given_back_by_a_stranger_is_used_at_once(autojump_clock: MockClock) -> None:
    """A token that another user of the limiter releases starts an operation at once."""
    limiter = trio.CapacityLimiter(3)
    await limiter.acquire_on_behalf_of("stranger 1")
    await limiter.acquire_on_behalf_of("stranger 2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_phases, (Works(10) for _ in range(3)), limiter=limiter))
        await trio.sleep(2)
        limiter.release_on_behalf_of("stranger 1")
        limiter.release_on_behalf_of("stranger 2")
    assert trio.current_time() == 12


async def test_strangers_get_their_turn(autojump_clock: MockClock) -> None:
    """Other users of a shared limiter get their turn, however short the operations are."""
    limiter = Limiter("shared", 1)
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(
            partial(run_phases, (Works(0) for _ in range(1000)), limiter=limiter)
        )
        async with limiter:
            assert manager.completed < 100
    assert account(manager) == (1000, 1000, 0, 0)


async def test_max_waiting_does_not_shed_operations(autojump_clock: MockClock) -> None:
    """``max_waiting`` rejects no operation: the run waits for tokens and holds its source back."""
    limiter = Limiter("ops", 1, max_waiting=0)
    report = await run_phases(arriving(4), limiter=limiter)
    assert account(report) == (4, 4, 0, 0)


# ---- closing the limiter ----


async def aborted_by_closing(
    limiter: Limiter, seconds: float, operations: Iterable[Works], **options: Any
) -> Aborted:
    """Close the limiter of a run after some seconds; return the error that aborts the run."""

    async def close() -> None:
        await trio.sleep(seconds)
        limiter.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        with pytest.raises(Aborted) as caught:
            await run_phases(operations, limiter=limiter, **options)
    for error in caught.value.exceptions:
        assert isinstance(error.__cause__, trio.ClosedResourceError)
    return caught.value


async def test_closed_limiter_stops_the_run(autojump_clock: MockClock) -> None:
    """Closing the limiter aborts the run with an error that says so."""
    aborted = await aborted_by_closing(Limiter("ops", 2), 0.5, (Works() for _ in range(9)))
    assert_conserved(aborted.report)


async def test_a_limiter_closed_before_a_retry_stops_the_run(autojump_clock: MockClock) -> None:
    """If the limiter is closed during a back-off, the run is aborted."""
    aborted = await aborted_by_closing(
        Limiter("ops", 1),
        5,
        [Works(0, OSError())],
        on_error=[Retry(1, backoff=lambda n: 10), Skip()],
    )
    assert len(aborted.exceptions) == 1
    assert account(aborted.report) == (1, 0, 0, 1)
