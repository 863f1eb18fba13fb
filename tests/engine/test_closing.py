"""Everything opened for a run is closed at the right time, and its errors hide nothing."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Batch,
    Consumer,
    Limiter,
    Processor,
    Producer,
    Scalable,
    run_phases,
    start_phases,
)
from trio_turnstile._engine.sources import open_source
from trio_turnstile.testing import assert_conserved


class Rows:
    """An async source that records when it is closed, such as the rows of an open query."""

    def __init__(self, rows: int = 0, fails: bool = False) -> None:
        self.left, self.fails = rows, fails
        self.closed: list[float] = []

    def __aiter__(self) -> Rows:
        return self

    async def __anext__(self) -> int:
        await trio.lowlevel.checkpoint()
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left

    async def aclose(self) -> None:
        self.closed.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise OSError("cannot close the source")


class Table:
    """A step that records when it is closed, and may fail to open, to work or to close."""

    def __init__(self, fails: str = "", seconds: float = 0) -> None:
        self.fails, self.seconds = fails, seconds
        self.closed: list[float] = []

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        if "open" in self.fails:
            raise OSError("cannot open")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if "close" in self.fails:
            raise OSError("cannot close")

    async def __call__(self, item: Any) -> Any:
        await trio.sleep(self.seconds)
        if "work" in self.fails:
            raise ValueError("root cause")
        return item


async def test_what_was_opened_is_closed_if_the_next_cannot_be_opened() -> None:
    """The source and the earlier steps are closed; the error comes out as it is."""
    rows, first = Rows(3), Table()
    with pytest.raises(OSError, match="cannot open"):
        await (Producer(rows) | Processor(first) | Consumer(Table("open"))).run()
    assert (len(rows.closed), len(first.closed)) == (1, 1)


async def test_merged_sources_are_closed_if_a_step_cannot_be_opened() -> None:
    """All merged sources are closed, once each, if a step cannot be opened."""
    sources = [Rows(3), Rows(3)]
    merged = Producer.merge(*map(Producer, sources))
    with pytest.raises(OSError, match="cannot open"):
        await (merged | Consumer(Table("open"))).run()
    assert [len(source.closed) for source in sources] == [1, 1]


@pytest.mark.parametrize("fails", ["close", "work close"])
async def test_an_error_in_closing_comes_after_what_stopped_the_run(fails: str) -> None:
    """The cause of the abort comes before the errors in closing, and the report is there."""
    with pytest.raises(Aborted) as caught:
        await (Producer([1]) | Processor(Table("close")) | Consumer(Table(fails))).run()
    causes = [str(error.__cause__) for error in caught.value.exceptions]
    assert causes == ["root cause"] * ("work" in fails) + ["cannot close", "cannot close"]
    assert caught.value.report.ended
    assert_conserved(caught.value.report)


async def test_an_error_in_closing_a_source_comes_after_what_stopped_the_run() -> None:
    """The cause of the abort comes before an error in closing the source."""
    with pytest.raises(Aborted) as caught:
        await (Producer(Rows(1, fails=True)) | Consumer(Table("work"))).run()
    causes = [str(error.__cause__) for error in caught.value.exceptions]
    assert causes == ["root cause", "cannot close the source"]


async def test_an_error_in_closing_hides_no_cancellation(autojump_clock: MockClock) -> None:
    """A cancelled run stays cancelled."""
    with trio.move_on_after(1) as scope:
        await (Producer(range(9)) | Consumer(Table("close", seconds=5))).run()
    assert scope.cancelled_caught


async def test_an_error_of_the_block_does_not_hide_that_the_run_was_aborted() -> None:
    """`Aborted` comes out, with the error of the block, which followed from it, as its context."""
    got = []
    with pytest.raises(Aborted) as caught:
        async with (Producer(range(3)) | Processor(Table("work"))).open() as results:
            got = [result async for result in results]
            assert len(got) == 3, "expected three"
    text = "".join(traceback.format_exception(caught.value))
    assert "root cause" in text
    assert "expected three" in text


async def test_an_error_of_the_block_alone_comes_out_as_it_is() -> None:
    """The error of a block comes out as it is; the run is cancelled, and its books balance."""
    with pytest.raises(KeyError, match="mine"):
        async with (Producer(range(3)) | Processor(Table())).open() as results:
            raise KeyError("mine")
    assert_conserved(results.report())
    assert results.report().ended


# ---- async generators ----


@asynccontextmanager
async def held_open(closed: list[float]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        closed.append(trio.current_time())


@pytest.mark.parametrize("waits", [False, True])
async def test_a_generator_lives_until_the_last_item_is_through(
    autojump_clock: MockClock, waits: bool
) -> None:
    """A generator is not closed before, even after a drain: items may need what it holds open."""
    closed: list[float] = []
    ended: list[float] = []

    async def source() -> AsyncIterator[int]:
        async with held_open(closed):
            for number in range(1000):
                if waits:
                    await trio.sleep(0.5)
                yield number

    async def step(item: int) -> int:
        await trio.sleep(3)
        return item

    async def last(item: int) -> None:
        await trio.sleep(3)
        ended.append(trio.current_time())

    async with (
        Producer(source) | Processor(step, limiter=3) | Consumer(last, limiter=3)
    ).start() as run:
        await trio.sleep(4)
        run.drain()
    assert ended
    assert closed == [max(ended)]
    assert_conserved(run)


async def test_operations_of_a_generator_may_use_it_to_the_end(autojump_clock: MockClock) -> None:
    """A generator of operations is closed only after the last operation, clean-up included."""
    closed: list[float] = []
    cleaned: list[float] = []

    class Slow(Scalable):
        async def work(self, channels: Any) -> None:
            await trio.sleep(2)

        async def cleanup(self, channels: Any) -> None:
            await trio.sleep(1)
            cleaned.append(trio.current_time())

    async def source() -> AsyncIterator[Scalable]:
        async with held_open(closed):
            while True:
                yield Slow()

    async with start_phases(source(), limiter=2) as manager:
        await trio.sleep(1)
        manager.drain()
    assert closed == [max(cleaned)]


def nursery_round_the_yield() -> AsyncIterator[int]:
    async def source() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            for number in range(1000):
                yield number
            nursery.cancel_scope.cancel()

    return source()


@pytest.mark.parametrize("how", ["drain", "cancel", "outside", "error"])
@pytest.mark.parametrize("merged", [False, True])
async def test_a_generator_with_a_nursery_ends_well(
    autojump_clock: MockClock, how: str, merged: bool
) -> None:
    """The GeneratorExit of such a generator comes in a group, which the user never sees."""

    async def step(item: int) -> None:
        await trio.sleep(1)
        if how == "error" and item == 5:
            raise ValueError("root cause")

    producer = Producer(nursery_round_the_yield())
    producer = Producer.merge(producer) if merged else producer
    run, causes = None, list[str]()
    try:
        with trio.move_on_after(4.5 if how == "outside" else 100) as scope:
            async with (producer | Consumer(step, limiter=2)).start() as run:
                await trio.sleep(4.5)
                if how == "drain":
                    run.drain()
                elif how == "cancel":
                    run.cancel()
    except Aborted as aborted:
        causes = [str(error.__cause__) for error in aborted.exceptions]
    assert causes == ["root cause"] * (how == "error")
    assert run is not None
    assert scope.cancelled_caught == (how == "outside")
    report = run.report()
    assert report.ended
    assert_conserved(report)


async def test_a_generator_that_refuses_to_close_is_an_error_of_the_source(
    autojump_clock: MockClock,
) -> None:
    """Other errors in the group with GeneratorExit are not swallowed."""

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise OSError("cannot close")

    with pytest.raises(Aborted) as caught:
        async with (Producer(source) | Consumer(Table(seconds=1), limiter=1)).start() as run:
            await trio.sleep(2.5)
            run.drain()
    assert str(caught.value.exceptions[0].__cause__) == "cannot close"


# ---- a run that is held ----


async def test_a_held_run_is_waited_for(autojump_clock: MockClock) -> None:
    """Leaving the block waits for the end of the run."""
    async with (Producer(range(4)) | Consumer(Table(seconds=1), limiter=2)).start() as run:
        assert run.steps[0].completed == 0
    assert run.steps[0].completed == 4
    assert trio.current_time() == 2


async def test_a_held_run_that_is_aborted_cancels_the_block(autojump_clock: MockClock) -> None:
    """A block that shows progress for ever is ended when the run is aborted."""
    with pytest.raises(Aborted):
        async with (Producer(range(4)) | Consumer(Table("work", seconds=1))).start():
            await trio.sleep_forever()
    assert trio.current_time() == 1


async def test_an_error_of_the_block_ends_a_held_run(autojump_clock: MockClock) -> None:
    """An error of the block comes out alone, and the items in hand are counted."""
    with pytest.raises(KeyError):
        async with start_phases([Scalable() for _ in range(3)], limiter=1) as manager:
            raise KeyError("mine")
    assert manager.report().ended
    assert_conserved(manager)


async def test_the_body_s_own_error_is_plain_under_a_cancelled_scope() -> None:
    """An outer scope that is cancelled at the same time does not turn the error into a group."""
    with trio.CancelScope() as scope, pytest.raises(KeyError, match="mine"):
        async with start_phases([Scalable()], limiter=1):
            scope.cancel()
            raise KeyError("mine")


async def test_run_phases_does_not_hang_if_its_start_cannot_be_told() -> None:
    """An error from ``task_status.started`` comes out."""

    class Status:
        def started(self, value: object = None) -> None:
            raise RuntimeError("nobody is there")

    with trio.fail_after(5), pytest.RaisesGroup(RuntimeError):
        status: Any = Status()
        await run_phases([Scalable()], limiter=1, task_status=status)


async def test_late_items_before_a_batch_are_counted(autojump_clock: MockClock) -> None:
    """An item that a generator yields after the drain is cancelled, pumped or not."""

    async def source() -> AsyncIterator[int]:
        for number in range(100):
            await trio.sleep(1)
            yield number

    async def store(items: list[int]) -> None:
        await trio.sleep(5)

    async with (Producer(source) | Consumer(store, batch=Batch(2))).start() as run:
        await trio.sleep(3.5)
        run.drain()
    (step,) = run.steps
    assert (step.received, step.completed, step.cancelled) == (4, 3, 1)
    assert_conserved(run)


async def test_merged_sources_inside_of_merged_sources_fail_together(
    autojump_clock: MockClock,
) -> None:
    """A failure in merged sources stops the reading of all, also of those merged inside."""

    async def broken() -> AsyncIterator[int]:
        await trio.sleep(1)
        yield 1
        raise OSError("no more")

    inner = Producer.merge(Producer(nursery_round_the_yield()), Producer([7]))
    with trio.fail_after(100), pytest.raises(Aborted, match="stopped"):
        await (Producer.merge(inner, Producer(broken)) | Consumer(Table(seconds=1))).run()


async def test_a_kept_token_of_the_work_is_given_back(autojump_clock: MockClock) -> None:
    """An operation without clean-up, with separate tokens for preparing, gives both back."""
    limiters = Limiter("work", 1), Limiter("prepare", 2)

    class Works(Scalable):
        async def work(self, channels: Any) -> None:
            await trio.sleep(1)

    report = await run_phases(
        [Works() for _ in range(4)], limiter=limiters[0], prepare_limiter=limiters[1]
    )
    assert report.completed == 4
    assert [limiter.borrowed_tokens for limiter in limiters] == [0, 0]


async def test_an_iterable_never_makes_anyone_wait() -> None:
    """A task that waits for an iterable anyway gets an error."""
    with pytest.raises(RuntimeError, match="never makes anyone wait"):
        await open_source([1]).receive()
