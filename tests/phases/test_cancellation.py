"""Cancellation and Ctrl-C while phases run."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.phases import Logged, Works, account
from trio_turnstile import Channels, Manager, Scalable, run_phases


async def test_cancellation_counts_and_cleans_up_what_is_in_hand(
    autojump_clock: MockClock,
) -> None:
    """A cancelled run counts every operation, and lets clean-ups finish."""
    operations = [Logged(n, []) for n in range(5)]
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(partial(run_phases, operations, limiter=2))
            await trio.sleep(1.5)
            scope.cancel()
    assert scope.cancelled_caught
    assert account(manager) == (2, 0, 0, 2)
    assert [len(operation.log) for operation in operations] == [3, 3, 0, 0, 0]
    assert trio.current_time() == 2.5


async def test_cancelled_while_waiting_for_a_token_needs_no_cleanup(
    autojump_clock: MockClock,
) -> None:
    """An operation that never began `prepare` is cancelled without clean-up."""
    operation = Works()
    limiter = trio.CapacityLimiter(1)
    await limiter.acquire()

    async def source() -> AsyncIterator[Scalable]:
        await trio.lowlevel.checkpoint()
        yield operation

    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            manager = await nursery.start(partial(run_phases, source(), limiter=limiter))
    assert account(manager) == (1, 0, 0, 1)
    assert operation.cleaned == 0


def test_ctrl_c_comes_out_bare_and_the_books_balance() -> None:
    """SIGINT raises `KeyboardInterrupt` after all clean-ups have run."""
    managers: list[Manager] = []
    operations = [Works(math.inf), Works(math.inf)]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            run = partial(run_phases, operations, limiter=2)
            managers.append(await nursery.start(run))
            await wait_all_tasks_blocked()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.value.subgroup(KeyboardInterrupt) is not None
    assert account(managers[0]) == (2, 0, 0, 2)
    assert [operation.cleaned for operation in operations] == [1, 1]


def test_ctrl_c_inside_a_phase_comes_out_bare() -> None:
    """`KeyboardInterrupt` raised in a phase is not wrapped in a group."""

    class Interrupted(Works):
        async def work(self, channels: Channels) -> None:
            signal.raise_signal(signal.SIGINT)

    operation = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        trio.run(partial(run_phases, [operation], limiter=1))
    assert operation.cleaned == 1


async def test_other_base_exceptions_come_out_in_their_group() -> None:
    """Other exceptions that are not an `Exception` are raised in a group."""

    class Odd(BaseException):
        pass

    with pytest.raises(BaseExceptionGroup) as caught:
        await run_phases([Works(0, Odd())], limiter=1)
    assert caught.value.subgroup(Odd) is not None
