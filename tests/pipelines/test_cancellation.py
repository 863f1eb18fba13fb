"""How pipelines end before their source does, and the account of each end."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    DISCARD,
    Aborted,
    Batch,
    Consumer,
    Limiter,
    Many,
    Pipeline,
    PipelineReport,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    Skip,
    Throttle,
)
from trio_turnstile.testing import assert_conserved


def account(of: PipelineReport | PipelineRun, name: str) -> tuple[int, int, int, int]:
    """Received, completed, failed and cancelled of one step; all steps balance."""
    assert_conserved(of)
    step = next(step for step in of.steps if step.name == name)
    return step.received, step.completed, step.failed, step.cancelled


class Source:
    """Counts what is taken."""

    def __init__(self, items: int = 1000) -> None:
        self.items = items
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.items):
            self.taken += 1
            yield number


async def as_it_is(item: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return item


def takes(seconds: float) -> Callable[[Any], Awaitable[Any]]:
    async def work(item: Any) -> Any:
        await trio.sleep(seconds)
        return item

    return work


async def start(nursery: trio.Nursery, pipeline: Pipeline) -> PipelineRun:
    flow: PipelineRun = await nursery.start(pipeline.run)
    return flow


# ---- drain ----


async def test_drain_takes_no_more_and_finishes_what_is_in_hand(autojump_clock: MockClock) -> None:
    """After a drain nothing is taken from the source, and what was taken goes through."""
    source = Source()
    stored: list[list[int]] = []

    async def store(numbers: list[int]) -> None:
        await trio.sleep(1)
        stored.append(numbers)

    async with trio.open_nursery() as nursery:
        flow = await start(
            nursery,
            Producer(source)
            | Processor(takes(1), limiter=3, ordered=True)
            | Processor(takes(0.5), limiter=1, ordered=True, name="ordered")
            | Consumer(store, batch=Batch(100)),
        )
        await trio.sleep(5.2)
        flow.drain()
        taken = source.taken
    assert source.taken == taken
    assert account(flow, "work") == (taken, taken, 0, 0)
    assert account(flow, "store") == (taken, taken, 0, 0)
    assert stored == [list(range(taken))]


async def test_drain_cancels_what_is_left_at_the_deadline(autojump_clock: MockClock) -> None:
    """Past the deadline what is in hand is cancelled and listed; the run just returns."""
    async with trio.open_nursery() as nursery:
        flow = await start(nursery, Producer([1, 9, 5]) | Consumer(takes(7), limiter=2))
        await trio.sleep(1)
        flow.drain(trio.current_time() + 2)
        flow.drain(trio.current_time() + 50)  # a later deadline does not put it off
    assert trio.current_time() == 3
    assert account(flow, "work") == (2, 0, 0, 2)
    assert set(flow.steps[0].cut_off) == {1, 9}
    assert flow.report().errors == ()


async def test_drain_of_a_paused_pipeline_waits_for_it(autojump_clock: MockClock) -> None:
    """Items that wait for a token are in hand too, and go through once there are tokens."""
    limiter = Limiter("api", 2, throttle=Throttle(min=0))
    async with trio.open_nursery() as nursery:
        flow = await start(
            nursery, Producer(range(9)) | Processor(as_it_is) | Consumer(takes(1), limiter=limiter)
        )
        await trio.sleep(0.5)
        limiter.total_tokens = 0
        await trio.sleep(5)
        flow.drain()
        await trio.sleep(5)
        assert sum(account(flow, "work")[1:]) < 9
        limiter.total_tokens = 1
    assert account(flow, "work") == (9, 9, 0, 0)


@pytest.mark.parametrize("ahead", [0, 3])
async def test_drain_while_the_source_is_waited_for(autojump_clock: MockClock, ahead: int) -> None:
    """A drain does not wait for a source that has nothing to give."""
    send, receive = trio.open_memory_channel[int](10)
    for number in range(ahead):
        send.send_nowait(number)
    async with trio.open_nursery() as nursery:
        flow = await start(nursery, Producer(receive) | Consumer(takes(1), limiter=2))
        await trio.sleep(10)
        flow.drain()
    assert trio.current_time() == 10
    assert account(flow, "work") == (ahead, ahead, 0, 0)
    send.send_nowait(99)
    assert receive.receive_nowait() == 99


async def test_results_can_be_drained(autojump_clock: MockClock) -> None:
    """Without a consumer too, a drain lets what is in hand come out."""
    source = Source()
    came: list[int] = []
    async with (Producer(source) | Processor(takes(1), limiter=2)).open() as results:
        async for number in results:
            came.append(number)
            if number == 5:
                results.drain()
    assert len(came) == source.taken
    assert account(results.report(), "work") == (len(came), len(came), 0, 0)


# ---- cancellation ----


async def test_cancellation_accounts_for_what_was_in_hand(autojump_clock: MockClock) -> None:
    """Cancelled from outside, all that was taken has a fate, and is listed where it was."""
    source = Source()
    pipeline = (
        Producer(source)
        | Processor(takes(1), limiter=2, name="one")
        | Processor(takes(1), limiter=2, ordered=True, name="two")
        | Processor(takes(1), limiter=2, key=lambda number: number % 3, name="three")
        | Processor(takes(1), name="four")
        | Consumer(takes(1), limiter=1, batch=Batch(3, within=5), name="five")
    )
    async with trio.open_nursery() as nursery:
        flow = await start(nursery, pipeline)
        await trio.sleep(20.5)
        nursery.cancel_scope.cancel()
    assert_conserved(flow)
    taken = 0
    for step in reversed(flow.steps):
        assert step.in_flight == 0
        assert len(step.cut_off) == step.cancelled
        taken += step.cancelled
    taken += flow.steps[-1].completed
    assert taken == source.taken
    left = [number for step in flow.steps for number in step.cut_off]
    assert len(left) == len(set(left))


async def test_cancelled_many_is_accounted_for(autojump_clock: MockClock) -> None:
    """Of what one item was spread to, what was not worked on yet is in hand as well."""

    async def spread(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(range(10))

    async with trio.open_nursery() as nursery:
        flow = await start(
            nursery, Producer([1]) | Processor(spread) | Consumer(takes(1), name="store")
        )
        await trio.sleep(3.5)
        flow.cancel()
    assert account(flow, "spread") == (1, 1, 0, 0)
    assert account(flow, "store") == (10, 3, 0, 7)
    assert flow.steps[1].cut_off == tuple(range(3, 10))


async def test_what_a_batching_consumer_takes_is_received(autojump_clock: MockClock) -> None:
    """A consumer of batches takes from the source only what it has room for."""
    source = Source()
    async with trio.open_nursery() as nursery:
        flow = await start(
            nursery, Producer(source) | Consumer(takes(10), limiter=1, window=4, batch=Batch(2))
        )
        await trio.sleep(5)
        flow.cancel()
    assert source.taken == 4
    assert account(flow, "work") == (4, 0, 0, 4)
    assert sorted(flow.steps[0].cut_off) == [0, 1, 2, 3]


async def test_merged_channels_lose_nothing_when_cancelled(autojump_clock: MockClock) -> None:
    """What was taken from a channel is received, or is in it still."""
    ends = [trio.open_memory_channel[int](10) for _ in range(3)]
    for send, _ in ends:
        for number in range(10):
            send.send_nowait(number)
    source = Producer.merge(*(Producer(receive) for _, receive in ends))
    async with trio.open_nursery() as nursery:
        flow = await start(nursery, source | Consumer(takes(1), limiter=1))
        await trio.sleep(5.5)
        flow.cancel()
    left = sum(receive.statistics().current_buffer_used for _, receive in ends)
    assert account(flow, "work")[0] == 30 - left


async def test_an_async_source_is_closed_in_its_own_task(autojump_clock: MockClock) -> None:
    """An async generator may hold a nursery across its ``yield``, left where it was entered."""
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
        flow = await start(nursery, Producer(source()) | Consumer(as_it_is, limiter=2))
        await trio.sleep(3.5)
        flow.cancel()
    assert log == ["closed"]
    assert account(flow, "as_it_is") == (3, 3, 0, 0)


# ---- a consumer that leaves early ----


async def test_leaving_early_cancels_what_is_in_hand(autojump_clock: MockClock) -> None:
    """Who leaves the block early leaves no error behind, and the account is complete."""
    source = Source()
    async with (Producer(source) | Processor(as_it_is, limiter=5)).open() as results:
        async for _ in results:
            await trio.sleep(1)  # meanwhile others are finished and wait to come out
            break
    received, completed, failed, cancelled = account(results.report(), "as_it_is")
    assert (received, completed, failed) == (source.taken, 1, 0)
    assert cancelled == len(results.report()["as_it_is"].cut_off) == received - 1
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)


async def test_an_error_in_the_block_comes_out_alone(autojump_clock: MockClock) -> None:
    """What the block raises comes out as it is, whatever was going on inside."""
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with (Producer(Source()) | Processor(as_it_is, limiter=5)).open() as results:
            await anext(results)
            await trio.sleep(1)
            raise error
    assert caught.value is error
    assert account(results.report(), "as_it_is")[0] == 70


async def test_cancelling_the_block_cancels_the_pipeline(autojump_clock: MockClock) -> None:
    """A timeout round the block ends all that belongs to it."""
    with trio.move_on_after(3):
        async with (Producer(Source()) | Processor(takes(2), limiter=2)).open() as results:
            async for _ in results:
                pass
    received, completed, failed, cancelled = account(results.report(), "work")
    assert (completed, failed) == (2, 0)
    assert cancelled == received - 2 >= 2


async def test_an_abort_comes_out_of_the_block(autojump_clock: MockClock) -> None:
    """Iteration ends when the pipeline is aborted, and leaving the block raises the errors."""

    async def fail_on_3(number: int) -> int:
        await trio.sleep(number)
        if number == 3:
            raise OSError
        return number

    came: list[int] = []
    with pytest.raises(Aborted) as caught:
        async with (Producer(range(9)) | Processor(fail_on_3)).open() as results:
            came += [number async for number in results]
    assert came == [0, 1, 2]
    assert [error.item for error in caught.value.exceptions] == [3]
    assert caught.value.report == results.report()
    assert account(results.report(), "fail_on_3") == (9, 3, 1, 5)


async def test_a_producer_without_steps_can_be_opened() -> None:
    """Merged producers, say, may be iterated over as they are."""
    merged = Producer.merge(Producer([1, 2]), Producer([3]))
    async with merged.open() as results:
        assert sorted([number async for number in results]) == [1, 2, 3]


# ---- Ctrl-C ----


async def strike(number: int) -> int:
    """Have the user press Ctrl-C while the third item is in hand."""
    await trio.sleep(1)
    if number == 3:
        signal.raise_signal(signal.SIGINT)
    return number


async def hidden_strike(number: int) -> int:
    """The same while nobody works, so that the main task is the one that hears of it."""
    if number == 3:
        trio.lowlevel.spawn_system_task(press)
    await trio.sleep(5)
    return number


async def press() -> None:
    await wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("step", [strike, hidden_strike])
def test_ctrl_c_comes_out_bare(step: Any) -> None:
    """An interrupt comes out as `KeyboardInterrupt`, and the books are closed."""
    flows: list[PipelineRun] = []
    pipeline = Producer(range(8)) | Processor(step, limiter=4) | Consumer(as_it_is, limiter=1)

    class Status:
        def started(self, flow: Any = None) -> None:
            flows.append(flow)

    async def main() -> None:
        status: Any = Status()
        await pipeline.run(task_status=status)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    (flow,) = flows
    assert_conserved(flow)
    assert all(report.in_flight == 0 for report in flow.steps)
    assert sum(report.cancelled for report in flow.steps) >= 1


@pytest.mark.parametrize("step", [strike, hidden_strike])
def test_ctrl_c_comes_out_of_the_block_bare(step: Any) -> None:
    """Without a consumer too, wherever the interrupt strikes."""

    async def main() -> None:
        async with (Producer(range(8)) | Processor(step, limiter=4)).open() as results:
            async for _ in results:
                pass

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_ctrl_c_in_the_source_comes_out_bare() -> None:
    """An iterator may be where the interrupt strikes."""

    def source() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await (Producer(source()) | Consumer(as_it_is)).run()


# ---- a source that fails ----


def broken_iterable() -> Iterator[int]:
    yield from range(3)
    raise OSError("no more")


async def broken_async_iterable() -> AsyncIterator[int]:
    for number in range(3):
        await trio.sleep(0.1)
        yield number
    raise OSError("no more")


async def broken_pages(cursor: int) -> tuple[list[int], int]:
    await trio.sleep(0.1)
    if cursor == 3:
        raise OSError("no more")
    return [cursor], cursor + 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Producer(broken_iterable()),
        lambda: Producer(broken_iterable),
        lambda: Producer(broken_async_iterable()),
        lambda: Producer.pages(broken_pages, 0),
        lambda: Producer.merge(Producer(broken_async_iterable), Producer.pages(broken_pages, 3)),
    ],
    ids=["iterable", "callable", "async", "pages", "merged"],
)
@pytest.mark.parametrize("batch", [None, Batch(2)])
async def test_a_failing_source_lets_what_is_in_hand_finish(
    autojump_clock: MockClock, make: Any, batch: Any
) -> None:
    """The source's error is raised after all that it gave has gone through."""
    consumer: Any = Consumer
    pipeline = make() | consumer(takes(2), limiter=2, batch=batch)
    with pytest.raises(Aborted) as caught:
        await pipeline.run()
    (error,) = caught.value.exceptions
    assert error.phase == "source"
    assert (error.item, repr(error.__cause__)) == (None, "OSError('no more')")
    report = caught.value.report
    received = report.steps[0].received
    assert account(report, "work") == (received, received, 0, 0)
    assert report.errors == (error,)


async def test_a_limiter_that_is_closed_ends_the_run(autojump_clock: MockClock) -> None:
    """Without its limiter a step cannot go on: the run is stopped, and says why."""
    limiter = Limiter("api", 1)

    async def close(number: int) -> None:
        await trio.sleep(1)
        if number == 3:
            limiter.close()

    with pytest.raises(Aborted) as caught:
        await (Producer(range(9)) | Consumer(close, limiter=limiter)).run()
    assert {error.phase for error in caught.value.exceptions} == {"limiter"}
    assert account(caught.value.report, "close")[1:3] == (4, 0)


# ---- abort ----


async def test_abort_raises_exactly_the_errors_of_the_failed_items(
    autojump_clock: MockClock,
) -> None:
    """An abort raises the errors that caused it, flat, with the report, and nothing beside."""

    async def work(number: int) -> Any:
        await trio.sleep(1)
        if number == 2:
            raise ValueError("bad")
        return DISCARD if number == 1 else number

    pipeline = (
        Producer(range(100))
        | Processor(takes(0.5), limiter=9, name="before")
        | Processor(work, limiter=3, on_error=[Skip(on=OSError)])
        | Processor(takes(5), ordered=True, name="after")
        | Consumer(takes(5), limiter=1)
    )
    with pytest.raises(Aborted) as caught:
        await pipeline.run()
    (error,) = caught.value.exceptions
    assert (error.item, error.phase, error.attempt) == (2, "work", 1)
    assert isinstance(error.__cause__, ValueError)
    report = caught.value.report
    assert report.errors == (error,)
    assert_conserved(report)
    assert report["work"].failed == 1
    for step in report.steps:
        assert len(step.cut_off) == step.cancelled
        assert step.in_flight == 0


async def test_errors_beside_a_cancellation_hide_no_other(autojump_clock: MockClock) -> None:
    """A step with a nursery may fail while it is cancelled: what stopped the run is raised."""

    async def close_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("cannot close")

    async def work(number: int) -> None:
        if number == 0:
            await trio.sleep(1)
            raise ValueError("bad")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close_badly)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(Aborted) as caught:
        await (Producer(range(2)) | Consumer(work)).run()
    assert [repr(error.__cause__) for error in caught.value.exceptions] == ["ValueError('bad')"]
    report = caught.value.report
    assert account(report, "work") == (2, 0, 1, 1)
    assert len(report.errors) == 2


async def test_back_off_does_not_outlive_an_abort(autojump_clock: MockClock) -> None:
    """Items that back off are cancelled with the rest."""

    async def work(number: int) -> None:
        await trio.sleep(number)
        raise OSError if number < 3 else ValueError

    with pytest.raises(Aborted) as caught:
        await (
            Producer(range(4))
            | Consumer(work, on_error=[Retry(9, on=OSError, backoff=lambda n: 99)])
        ).run()
    assert trio.current_time() == 3
    assert account(caught.value.report, "work") == (4, 0, 1, 3)
    assert caught.value.report["work"].retried == 3


async def test_errors_kept_are_bounded() -> None:
    """Of many errors the first are kept, and the others counted."""

    async def fail(number: int) -> None:
        raise OSError(number)

    report = await (Producer(range(9)) | Consumer(fail, on_error=[Skip()])).run(max_errors=2)
    assert (len(report.errors), report.errors_omitted) == (2, 7)
    assert account(report, "fail") == (9, 0, 9, 0)
