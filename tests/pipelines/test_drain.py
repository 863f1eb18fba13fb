"""Graceful shutdown of a pipeline: `drain`."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import CountedSource, account, start, takes, unchanged
from trio_turnstile import Batch, Consumer, Limiter, Processor, Producer, Throttle


async def test_drain_takes_no_more_and_finishes_what_is_in_hand(autojump_clock: MockClock) -> None:
    """After `drain` nothing is read, and all items in flight finish."""
    source = CountedSource()
    stored: list[list[int]] = []

    async def store(numbers: list[int]) -> None:
        await trio.sleep(1)
        stored.append(numbers)

    async with trio.open_nursery() as nursery:
        run = await start(
            nursery,
            Producer(source)
            | Processor(takes(1), limiter=3, ordered=True)
            | Processor(takes(0.5), limiter=1, ordered=True, name="ordered")
            | Consumer(store, batch=Batch(100)),
        )
        await trio.sleep(5.2)
        run.drain()
        taken = source.taken
    assert source.taken == taken
    assert account(run)["work"] == (taken, taken, 0, 0, 0, 0)
    assert account(run)["store"] == (taken, taken, 0, 0, 0, 0)
    assert stored == [list(range(taken))]


async def test_drain_cancels_what_is_left_at_the_deadline(autojump_clock: MockClock) -> None:
    """At the deadline, items in flight are cancelled and listed, and the run returns."""
    async with trio.open_nursery() as nursery:
        run = await start(nursery, Producer([1, 9, 5]) | Consumer(takes(7), limiter=2))
        await trio.sleep(1)
        run.drain(trio.current_time() + 2)
        run.drain(trio.current_time() + 50)  # a later deadline does not put it off
    assert trio.current_time() == 3
    assert account(run)["work"] == (2, 0, 0, 0, 0, 2)
    assert set(run.steps[0].cut_off) == {1, 9}
    assert run.report().errors == ()


async def test_drain_of_a_paused_pipeline_waits_for_it(autojump_clock: MockClock) -> None:
    """A drained pipeline still waits for tokens for its items in flight."""
    limiter = Limiter("api", 2, throttle=Throttle(min=0))
    async with trio.open_nursery() as nursery:
        run = await start(
            nursery, Producer(range(9)) | Processor(unchanged) | Consumer(takes(1), limiter=limiter)
        )
        await trio.sleep(0.5)
        limiter.total_tokens = 0
        await trio.sleep(5)
        run.drain()
        await trio.sleep(5)
        assert sum(account(run)["work"][1:]) < 9
        limiter.total_tokens = 1
    assert account(run)["work"] == (9, 9, 0, 0, 0, 0)


@pytest.mark.parametrize("ahead", [0, 3])
async def test_drain_while_the_source_is_waited_for(autojump_clock: MockClock, ahead: int) -> None:
    """`drain` does not wait for a source that has no item."""
    send, receive = trio.open_memory_channel[int](10)
    for number in range(ahead):
        send.send_nowait(number)
    async with trio.open_nursery() as nursery:
        run = await start(nursery, Producer(receive) | Consumer(takes(1), limiter=2))
        await trio.sleep(10)
        run.drain()
    assert trio.current_time() == 10
    assert account(run)["work"] == (ahead, ahead, 0, 0, 0, 0)
    send.send_nowait(99)
    assert receive.receive_nowait() == 99


async def test_results_can_be_drained(autojump_clock: MockClock) -> None:
    """Without a consumer, too, items in flight still come out after `drain`."""
    source = CountedSource()
    came: list[int] = []
    async with (Producer(source) | Processor(takes(1), limiter=2)).open() as results:
        async for number in results:
            came.append(number)
            if number == 5:
                results.drain()
    assert len(came) == source.taken
    assert account(results.report())["work"] == (len(came), len(came), 0, 0, 0, 0)
