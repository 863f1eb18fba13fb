"""Where the items of a pipeline come from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.pipelines import account, into, slowly, takes, unchanged
from trio_turnstile import Aborted, Batch, Consumer, Many, Processor, Producer
from trio_turnstile.testing import assert_conserved


async def all_of(producer: Producer[int]) -> list[int]:
    """Return all items of a producer, sorted."""
    async with (producer | Processor(unchanged, limiter=3)).open() as results:
        items = sorted([item async for item in results])
    report = results.report()
    assert_conserved(report)
    assert report.steps[0].completed == len(items)
    return items


def channel_of(*items: int) -> trio.MemoryReceiveChannel[int]:
    send, receive = trio.open_memory_channel[int](len(items))
    with send:
        for item in items:
            send.send_nowait(item)
    return receive


@asynccontextmanager
async def opened() -> AsyncIterator[Iterable[int]]:
    await trio.lowlevel.checkpoint()
    yield [1, 2, 3]


@trio.as_safe_channel
async def safe() -> AsyncIterator[int]:
    for number in (1, 2, 3):
        await trio.lowlevel.checkpoint()
        yield number


class Endless(Iterable[int]):
    """A source that is both iterable and callable."""

    def __call__(self) -> int:
        raise AssertionError("called")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


@pytest.mark.parametrize(
    "make",
    [
        lambda: [1, 2, 3],
        lambda: iter([1, 2, 3]),
        lambda: slowly(1, 2, 3),
        lambda: channel_of(1, 2, 3),
        lambda: lambda: [1, 2, 3],
        lambda: lambda: slowly(1, 2, 3),
        lambda: lambda: channel_of(1, 2, 3),
        lambda: opened,
        lambda: safe,
        Endless,
    ],
    ids=[
        "list", "iterator", "async", "channel", "gives a list", "gives an async iterable",
        "gives a channel", "opens", "safe channel", "callable iterable",
    ],
)  # fmt: skip
async def test_all_kinds_of_sources(autojump_clock: MockClock, make: Any) -> None:
    """An iterable, an async iterable, a channel, or a function that returns one is a source."""
    assert await all_of(Producer(make())) == [1, 2, 3]


async def test_a_function_opens_a_source_for_each_run() -> None:
    """A function gives a fresh source for each run, while an iterator is used up by one."""
    once, always = Producer(iter([1, 2])), Producer(lambda: iter([1, 2]))
    assert [await all_of(once) for _ in range(2)] == [[1, 2], []]
    assert [await all_of(always) for _ in range(2)] == [[1, 2], [1, 2]]


@pytest.mark.parametrize("source", [5, None, lambda: 5])
async def test_other_things_are_no_sources(source: Any) -> None:
    """Anything else is refused, with an error that lists what a source can be."""
    with pytest.raises(TypeError, match="a source must be an iterable, an async iterable or a"):
        await (Producer(source) | Consumer(unchanged)).run()


async def test_an_iterator_must_not_ask_to_wait() -> None:
    """An iterator that raises `trio.WouldBlock` fails with a clear error."""

    def source() -> Iterator[int]:
        raise trio.WouldBlock
        yield 1

    with pytest.RaisesGroup(pytest.RaisesExc(Exception, match="must return an item or end")):
        await (Producer(source) | Consumer(unchanged)).run()


async def test_a_channel_is_left_open(autojump_clock: MockClock) -> None:
    """A pipeline reads its channel, and does not close it."""
    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon((Producer(receive) | Consumer(unchanged)).run)
        for number in range(3):
            await send.send(number)
        await trio.sleep(1)
        send.close()
    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()


async def test_an_async_source_is_read_one_ahead(autojump_clock: MockClock) -> None:
    """While all tokens are in use, one item is read ahead."""
    read = 0

    async def source() -> AsyncIterator[int]:
        nonlocal read
        for read in range(1, 10):
            await trio.sleep(0.1)
            yield read

    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer(source()) | Consumer(takes(1), limiter=2)).run)
        await trio.sleep(0.9)
        assert read == 3
        run.drain()
    assert_conserved(run)


# ---- pages ----


class Pages:
    """A paged service that records its requests; a page takes a second."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.asked: list[tuple[int, float]] = []

    async def __call__(self, cursor: int) -> tuple[list[int], int | None]:
        self.asked.append((cursor, trio.current_time()))
        await trio.sleep(1)
        begin = sum(self.sizes[:cursor])
        following = cursor + 1 if cursor + 1 < len(self.sizes) else None
        return list(range(begin, begin + self.sizes[cursor])), following


@pytest.mark.parametrize("sizes", [(3, 3, 2), (0,), (0, 2, 0, 0, 3), (1, 1, 1)])
async def test_pages_are_read_to_the_last(
    autojump_clock: MockClock, sizes: tuple[int, ...]
) -> None:
    """All pages are read in order until there is no next cursor; a page may be empty."""
    pages = Pages(*sizes)
    came: list[int] = []

    await (Producer.pages(pages, 0) | Consumer(into(came), limiter=1)).run()
    assert came == list(range(sum(sizes)))
    assert [cursor for cursor, _ in pages.asked] == list(range(len(sizes)))


async def test_one_page_is_read_ahead(autojump_clock: MockClock) -> None:
    """One page is read ahead, and not two, while items are worked on."""
    pages = Pages(10, 10, 10, 10)
    async with trio.open_nursery() as nursery:
        run = await nursery.start((Producer.pages(pages, 0) | Consumer(takes(1), limiter=1)).run)
        await trio.sleep(8.5)
        assert [cursor for cursor, _ in pages.asked] == [0, 1]
        await trio.sleep(10)
        assert [cursor for cursor, _ in pages.asked] == [0, 1, 2]
    assert trio.current_time() == 41  # one page to begin with, and then no more waits
    assert_conserved(run)


async def test_pages_become_items_by_many(autojump_clock: MockClock) -> None:
    """A page can be an item, which a step turns into its rows."""

    async def rows(page: list[int]) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(page)

    async with (Producer([[1, 2], [], [3]]) | Processor(rows)).open() as results:
        assert sorted([row async for row in results]) == [1, 2, 3]


@pytest.mark.parametrize("merges", [0, 1, 2])
async def test_draining_asks_for_no_more_pages(autojump_clock: MockClock, merges: int) -> None:
    """After `drain` no page is requested, and the items of the pages read finish."""
    pages = Pages(5, 5, 5, 5)
    producer = Producer.pages(pages, 0)
    for _ in range(merges):
        producer = Producer.merge(producer)
    async with trio.open_nursery() as nursery:
        run = await nursery.start((producer | Consumer(takes(1), limiter=1)).run)
        await trio.sleep(3.5)
        asked = len(pages.asked)
        run.drain()
    assert len(pages.asked) == asked
    assert run.steps[0].completed == run.steps[0].received == 5 * asked


# ---- merge ----


async def test_merged_producers_of_all_kinds(autojump_clock: MockClock) -> None:
    """Merged producers give all their items, until the last one ends."""
    merged = Producer.merge(
        Producer([1, 2]),
        Producer(slowly(3, 4)),
        Producer(channel_of(5, 6)),
        Producer(opened),
        Producer.pages(Pages(2, 1), 0),
        Producer.merge(Producer([7]), Producer([])),
    )
    assert await all_of(merged) == sorted([1, 2, 3, 4, 5, 6, 1, 2, 3, 0, 1, 2, 7])


async def test_merging_nothing_gives_nothing() -> None:
    """Merging no producers makes an empty producer."""
    assert await all_of(Producer.merge()) == []


async def test_a_silent_producer_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    """Items of one producer come while another has none."""
    send, silent = trio.open_memory_channel[int](0)
    async with (
        Producer.merge(Producer(silent), Producer([1, 2, 3])) | Processor(unchanged)
    ).open() as results:
        assert sorted([await anext(results) for _ in range(3)]) == [1, 2, 3]
        send.close()
        assert [item async for item in results] == []


async def test_merged_sources_are_read_as_wanted() -> None:
    """Each of the merged sources is read one item ahead at most."""
    taken = [0, 0]

    def source(which: int) -> Iterator[int]:
        for number in range(100):
            taken[which] += 1
            yield number

    merged = Producer.merge(Producer(lambda: source(0)), Producer(lambda: source(1)))
    async with (merged | Processor(unchanged, window=2)).open() as results:
        await wait_all_tasks_blocked()
        assert sum(taken) <= 4
        await anext(results)
        await wait_all_tasks_blocked()
        assert sum(taken) <= 6
    assert results.report().steps[0].completed == 1


async def test_draining_merged_sources(autojump_clock: MockClock) -> None:
    """`drain` stops all merged sources without waiting for any; late items are cancelled."""
    _, silent = trio.open_memory_channel[int](0)
    merged = Producer.merge(Producer(silent), Producer(slowly(*range(100))))
    async with trio.open_nursery() as nursery:
        run = await nursery.start((merged | Consumer(takes(1), limiter=1)).run)
        await trio.sleep(5.5)
        run.drain()
    assert trio.current_time() <= 7
    (step,) = run.steps
    assert (step.completed, step.received - step.cancelled) == (5, 5)
    assert_conserved(run)


def test_merge_takes_producers_alone() -> None:
    """A producer that is already joined to steps cannot be merged."""
    with pytest.raises(ValueError, match="join processors to what it returns"):
        Producer.merge(Producer([1]) | Processor(unchanged))


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
    """The source's error is raised after all items read before it have finished."""
    consumer: Any = Consumer
    pipeline = make() | consumer(takes(2), limiter=2, batch=batch)
    with pytest.raises(Aborted) as caught:
        await pipeline.run()
    (error,) = caught.value.exceptions
    assert error.phase == "source"
    assert (error.item, repr(error.__cause__)) == (None, "OSError('no more')")
    report = caught.value.report
    received = report.steps[0].received
    assert account(report)["work"] == (received, received, 0, 0, 0, 0)
    assert report.errors == (error,)
