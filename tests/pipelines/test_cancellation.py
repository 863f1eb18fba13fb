"""Cancelled pipelines, and the counts of what was in flight."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio
from trio.testing import MockClock

from testkit.pipelines import CountedSource, account, start, takes, unchanged
from trio_turnstile import Batch, Consumer, Many, Processor, Producer
from trio_turnstile.testing import assert_conserved


async def test_cancellation_accounts_for_what_was_in_hand(autojump_clock: MockClock) -> None:
    """After cancellation every item has a fate, and each cancelled item is listed."""
    source = CountedSource()
    pipeline = (
        Producer(source)
        | Processor(takes(1), limiter=2, name="one")
        | Processor(takes(1), limiter=2, ordered=True, name="two")
        | Processor(takes(1), limiter=2, key=lambda number: number % 3, name="three")
        | Processor(takes(1), name="four")
        | Consumer(takes(1), limiter=1, batch=Batch(3, within=5), name="five")
    )
    async with trio.open_nursery() as nursery:
        run = await start(nursery, pipeline)
        await trio.sleep(20.5)
        nursery.cancel_scope.cancel()
    assert_conserved(run)
    taken = 0
    for step in reversed(run.steps):
        assert step.in_flight == 0
        assert len(step.cut_off) == step.cancelled
        taken += step.cancelled
    taken += run.steps[-1].completed
    assert taken == source.taken
    left = [number for step in run.steps for number in step.cut_off]
    assert len(left) == len(set(left))


async def test_cancelled_many_is_accounted_for(autojump_clock: MockClock) -> None:
    """The items of a `Many` that were not begun are cancelled and listed."""

    async def spread(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(range(10))

    async with trio.open_nursery() as nursery:
        run = await start(
            nursery, Producer([1]) | Processor(spread) | Consumer(takes(1), name="store")
        )
        await trio.sleep(3.5)
        run.cancel()
    assert account(run)["spread"] == (1, 1, 0, 0, 0, 0)
    assert account(run)["store"] == (10, 3, 0, 0, 0, 7)
    assert run.steps[1].cut_off == tuple(range(3, 10))


async def test_what_a_batching_consumer_takes_is_received(autojump_clock: MockClock) -> None:
    """A batching consumer takes only as many items as its window holds."""
    source = CountedSource()
    async with trio.open_nursery() as nursery:
        run = await start(
            nursery, Producer(source) | Consumer(takes(10), limiter=1, window=4, batch=Batch(2))
        )
        await trio.sleep(5)
        run.cancel()
    assert source.taken == 4
    assert account(run)["work"] == (4, 0, 0, 0, 0, 4)
    assert sorted(run.steps[0].cut_off) == [0, 1, 2, 3]


async def test_merged_channels_lose_nothing_when_cancelled(autojump_clock: MockClock) -> None:
    """Every item of a merged channel was received, or is still in its channel."""
    ends = [trio.open_memory_channel[int](10) for _ in range(3)]
    for send, _ in ends:
        for number in range(10):
            send.send_nowait(number)
    source = Producer.merge(*(Producer(receive) for _, receive in ends))
    async with trio.open_nursery() as nursery:
        run = await start(nursery, source | Consumer(takes(1), limiter=1))
        await trio.sleep(5.5)
        run.cancel()
    left = sum(receive.statistics().current_buffer_used for _, receive in ends)
    assert account(run)["work"][0] == 30 - left


async def test_an_async_source_is_closed_in_its_own_task(autojump_clock: MockClock) -> None:
    """An async generator with an open nursery is closed in the task that reads it."""
    log: list[str] = []

    async def source() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                for number in range(100):
                    await trio.sleep(1)
                    yield number
            finally:
                nursery.cancel_scope.cancel()
                log.append("closed")

    async with trio.open_nursery() as nursery:
        run = await start(nursery, Producer(source()) | Consumer(unchanged, limiter=2))
        await trio.sleep(3.5)
        run.cancel()
    assert log == ["closed"]
    assert account(run)["unchanged"] == (3, 3, 0, 0, 0, 0)
