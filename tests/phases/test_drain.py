"""Graceful shutdown of a run of phases: `drain`."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.phases import Sleeps, Works, account, arriving
from trio_turnstile import Manager, Report, Scalable, run_phases


async def test_drain_finishes_what_is_in_hand(autojump_clock: MockClock) -> None:
    """After `drain` no operation is read, and those that were begun complete."""
    operations = (Sleeps() for _ in range(99))
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, operations, limiter=3))
        await trio.sleep(1.5)
        manager.drain()
    assert account(manager) == (6, 6, 0, 0)
    assert trio.current_time() == 2


async def test_drain_deadline_cancels_what_is_still_in_hand(autojump_clock: MockClock) -> None:
    """At the deadline the rest is cancelled, and the run returns its report."""
    reports: list[Report] = []
    managers: list[Manager] = []

    async def run(task_status: trio.TaskStatus[Manager]) -> None:
        operations = [Sleeps(1), Sleeps(60), Sleeps(60), Sleeps(60)]
        reports.append(await run_phases(operations, limiter=2, task_status=task_status))

    async with trio.open_nursery() as nursery:
        managers.append(await nursery.start(run))
        await trio.sleep(2)
        managers[0].drain(deadline=trio.current_time() + 10)
        managers[0].drain(deadline=trio.current_time() + 99)
    assert account(reports[0]) == (3, 1, 0, 2)
    assert len(reports[0].cut_off) == 2
    assert trio.current_time() == 12


async def test_drain_stops_an_async_source(autojump_clock: MockClock) -> None:
    """`drain` cancels the wait for a source, and begins no operation that was only read."""
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, arriving(99, every=0.4), limiter=1))
        await trio.sleep(1)
        manager.drain()
    assert account(manager) == (2, 1, 0, 1)
    assert len(manager.report().cut_off) == 1


async def test_drain_leaves_a_channel_to_its_owner(autojump_clock: MockClock) -> None:
    """A drained run stops reading its channel, and leaves in it what is there."""
    send, receive = trio.open_memory_channel[Scalable](9)
    send.send_nowait(Works())
    async with trio.open_nursery() as nursery:
        manager = await nursery.start(partial(run_phases, receive, limiter=2))
        await trio.sleep(2)
        manager.drain()
        await wait_all_tasks_blocked()
        send.send_nowait(Works())
    assert account(manager) == (1, 1, 0, 0)
    assert receive.statistics().current_buffer_used == 1
