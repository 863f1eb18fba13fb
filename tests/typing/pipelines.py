"""Pipelines as a user writes them, and the types that come out. Checked, never run."""

# pyright: strict

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, assert_type

import trio

from trio_turnstile import (
    DISCARD,
    Abort,
    Aborted,
    Batch,
    BatchError,
    ByKey,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Discard,
    Halt,
    JsonLinesBatchWriter,
    JsonLinesReader,
    JsonLinesWriter,
    Limiter,
    Log,
    Many,
    Pipeline,
    PipelineReport,
    PipelineRun,
    Processor,
    Producer,
    Results,
    Retry,
    RetryBudget,
    SharedLimiter,
    Skip,
    StepReport,
    Turnstile,
    amap,
    amap_list,
    dead_letter_to_dict,
    retry,
)
from trio_turnstile.testing import ProbeSink, ProbeSource, assert_conserved, no_backoff, run_one


class Page:
    """A page that is fetched."""


class Row:
    """A row of a page."""

    key: str


async def fetch(url: str) -> Page:
    raise NotImplementedError


async def rows(page: Page) -> Many[Row]:
    raise NotImplementedError


async def each_row(page: Page) -> AsyncIterator[Row]:
    yield Row()


async def each_title(page: Page) -> AsyncGenerator[str]:
    yield ""


async def each_pair(rows: list[Row]) -> AsyncIterator[tuple[Row, Row]]:
    yield Row(), Row()


async def row_or_not(page: Page) -> Row | Discard:
    raise NotImplementedError


async def rows_or_not(page: Page) -> Many[Row] | Discard:
    raise NotImplementedError


async def title(page: Page) -> str:
    raise NotImplementedError


async def maybe_title(page: Page) -> str | None:
    raise NotImplementedError


async def store(row: Row) -> None:
    raise NotImplementedError


async def store_all(rows: list[Row]) -> None:
    raise NotImplementedError


async def join(rows: list[Row]) -> Page:
    raise NotImplementedError


async def sort(rows: list[Row]) -> Many[Row] | Discard:
    raise NotImplementedError


async def count(row: Row) -> int:
    raise NotImplementedError


async def anything(item: object) -> None:
    raise NotImplementedError


# ---- sources ----


async def numbers() -> AsyncIterator[int]:
    yield 1


def lines() -> Iterator[str]:
    yield ""


@asynccontextmanager
async def opened() -> AsyncGenerator[list[str]]:
    yield []


@trio.as_safe_channel
async def safe() -> AsyncGenerator[str]:
    yield ""


async def fetch_page(cursor: int) -> tuple[list[Row], int | None]:
    raise NotImplementedError


async def fetch_token(token: str) -> tuple[tuple[Row, ...], str | None]:
    raise NotImplementedError


assert_type(Producer(["a", "b"]), Producer[str])
assert_type(Producer(range(5)), Producer[int])
assert_type(Producer(numbers()), Producer[int])
assert_type(Producer(lines()), Producer[str])
assert_type(Producer(numbers), Producer[int])
assert_type(Producer(lines), Producer[str])
assert_type(Producer(opened), Producer[str])
assert_type(Producer(safe), Producer[str])
assert_type(Producer(lambda: [1, 2]), Producer[int])
assert_type(Producer.pages(fetch_page, 0), Producer[Row])
assert_type(Producer.pages(fetch_token, "start"), Producer[Row])
assert_type(Producer.merge(Producer([1]), Producer(numbers)), Producer[int])
assert_type(Producer(ProbeSource[Row]()), Producer[Row])


def channels(
    receive: trio.MemoryReceiveChannel[Row], letters: trio.MemoryReceiveChannel[ConcurrentError]
) -> None:
    assert_type(Producer(receive), Producer[Row])
    assert_type(Producer(letters), Producer[ConcurrentError])
    assert_type(Producer(lambda: receive), Producer[Row])


# ---- steps ----


class Fetcher:
    """A step with state."""

    async def __call__(self, url: str) -> Page:
        raise NotImplementedError


class Client:
    """A step with a connection, which itself is the function."""

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    async def __call__(self, url: str) -> Page:
        raise NotImplementedError


@asynccontextmanager
async def connected() -> AsyncGenerator[Callable[[str], Awaitable[Page]]]:
    yield fetch


@asynccontextmanager
async def joiner() -> AsyncGenerator[Callable[[list[Row]], Awaitable[Page]]]:
    yield join


class Reader:
    """A step with state that yields."""

    async def __call__(self, page: Page) -> AsyncIterator[Row]:
        yield Row()


@asynccontextmanager
async def reader() -> AsyncGenerator[Callable[[Page], AsyncIterator[Row]]]:
    yield each_row


@asynccontextmanager
async def splitter() -> AsyncGenerator[Callable[[Page], Awaitable[Many[Row]]]]:
    yield rows


assert_type(Processor(fetch), Processor[str, Page])
assert_type(Processor(rows), Processor[Page, Row])
assert_type(Processor(each_row, limiter=5), Processor[Page, Row])
assert_type(Processor(each_title), Processor[Page, str])
assert_type(Processor(Reader()), Processor[Page, Row])
assert_type(Processor(reader()), Processor[Page, Row])
assert_type(Processor(each_pair, batch=Batch(5)), Processor[Row, tuple[Row, Row]])
assert_type(Processor(row_or_not), Processor[Page, Row])
assert_type(Processor(rows_or_not), Processor[Page, Row])
assert_type(Processor(title), Processor[Page, str])
assert_type(Processor(maybe_title), Processor[Page, str | None])
assert_type(Processor(Fetcher()), Processor[str, Page])
assert_type(Processor(Client()), Processor[str, Page])
assert_type(Processor(connected()), Processor[str, Page])
assert_type(Processor(splitter()), Processor[Page, Row])
assert_type(Processor(join, batch=Batch(10)), Processor[Row, Page])
assert_type(Processor(sort, batch=Batch(10, until=bool), limiter=2), Processor[Row, Row])
assert_type(Processor(joiner(), batch=Batch(10)), Processor[Row, Page])
assert_type(Processor(rows) | Processor(sort, batch=Batch(5)), Processor[Page, Row])
assert_type(Consumer(store), Consumer[Row])
assert_type(Consumer(count), Consumer[Row])
assert_type(Consumer(store_all, batch=Batch(10)), Consumer[Row])
assert_type(Consumer(Client()), Consumer[str])
assert_type(Consumer(connected()), Consumer[str])
assert_type(Consumer(ProbeSink[Row]()), Consumer[Row])


def options(api: Limiter, plain: trio.CapacityLimiter) -> None:
    letters, _ = trio.open_memory_channel[ConcurrentError](10)
    assert_type(
        Processor(
            fetch,
            limiter=api,
            window=10,
            ordered=True,
            timeout=5,
            on_error=[
                Retry(3, on=OSError, budget=RetryBudget(retries=10, per_second=1)),
                Log(),
                DeadLetter(letters, on=ValueError),
                Halt("soon", fail="5%"),
                Skip(),
                Abort(),
            ],
            name="fetch",
        ),
        Processor[str, Page],
    )
    assert_type(Consumer(store, limiter=plain, key=lambda row: row.key), Consumer[Row])
    assert_type(Processor(fetch, limiter=5, key=len), Processor[str, Page])
    assert_type(
        Consumer(
            store_all,
            batch=Batch(100, within=1.0, weight=lambda row: 1.0, max_weight=5, key=id),
            limiter=1,
            on_error=(Skip(),),
        ),
        Consumer[Row],
    )


# ---- tokens by key and weight ----


def key_of(url: str) -> str:
    raise NotImplementedError


def key_of_all(rows: list[Row]) -> str:
    raise NotImplementedError


async def shares(turnstile: Turnstile) -> None:
    hosts = turnstile.shared("hosts", 40, each=2, weight=len, policy=None)
    assert_type(hosts, SharedLimiter)
    by = hosts.by(key_of, priority=len, waiting=10)
    assert_type(by, ByKey[str])
    assert_type(Processor(fetch, limiter=by, weight=len), Processor[str, Page])
    assert_type(
        Processor(sort, limiter=hosts.by(key_of_all), weight=len, batch=Batch(10)),
        Processor[Row, Row],
    )
    assert_type(await amap_list(fetch, ["a"], limiter=by, weight=2), list[Page])
    assert_type(await retry(Retry(3), fetch, "a", limiter=hosts.of("a")), Page)


# ---- one function for many items ----


async def maps() -> None:
    async with amap(fetch, ["a", "b"], limiter=5, ordered=True, on_error=[Skip()]) as pages:
        assert_type(pages, Results[Page])
        async for page in pages:
            assert_type(page, Page)
    async with amap(rows, [Page()], key=id) as some_rows:
        assert_type(some_rows, Results[Row])
    async with amap(row_or_not, lambda: [Page()]) as picked:
        assert_type(picked, Results[Row])
    async with amap(connected(), lines) as connected_pages:
        assert_type(connected_pages, Results[Page])
    assert_type(await amap_list(fetch, ["a"], limiter=trio.CapacityLimiter(5)), list[Page])
    assert_type(await amap_list(rows_or_not, [Page()]), list[Row])
    assert_type(await amap_list(each_row, [Page()]), list[Row])
    async with amap(each_title, [Page()]) as titles:
        assert_type(titles, Results[str])
    assert_type(await amap_list(maybe_title, [Page()], timeout=5), list[str | None])
    assert_type(await amap_list(splitter(), [Page()]), list[Row])
    assert_type(await amap_list(connected(), opened), list[Page])


# ---- joints ----

urls = Producer(["https://example.org"])

assert_type(urls | Processor(fetch), Producer[Page])
assert_type(urls | Processor(fetch) | Processor(rows), Producer[Row])
assert_type(urls | Processor(fetch) | Processor(rows) | Consumer(store), Pipeline)
assert_type(urls | Processor(fetch) | Processor(row_or_not) | Consumer(store), Pipeline)
assert_type(urls | Processor(fetch) | Consumer(anything), Pipeline)
assert_type(urls | Consumer(anything), Pipeline)
assert_type(urls | Processor(connected()) | Processor(splitter()) | Consumer(store), Pipeline)
assert_type(Processor(fetch) | Processor(rows), Processor[str, Row])
assert_type(Processor(fetch) | (Processor(rows) | Processor(count)), Processor[str, int])
assert_type(Processor(rows) | Consumer(store), Consumer[Page])
assert_type(Processor(rows) | Consumer(store_all, batch=Batch(5)), Consumer[Page])
assert_type(Processor(fetch) | Processor(rows) | Consumer(store), Consumer[str])
assert_type(urls | (Processor(fetch) | Processor(rows) | Consumer(store)), Pipeline)
assert_type(urls | Consumer(JsonLinesWriter("out")), Pipeline)
assert_type(urls | Consumer(JsonLinesBatchWriter("out"), batch=Batch(100)), Pipeline)
assert_type(Producer(JsonLinesReader("in")) | Consumer(store), Pipeline)
assert_type(
    Producer.merge(Producer([Row()]), Producer.pages(fetch_page, 0)) | Consumer(store), Pipeline
)


# ---- runs ----


async def runs(pipeline: Pipeline, nursery: trio.Nursery) -> None:
    report = await pipeline.run(max_errors=10)
    assert_type(report, PipelineReport)
    assert_type(report.steps, tuple[StepReport, ...])
    assert_type(report["fetch"].completed, int)
    assert_type(report.errors, tuple[ConcurrentError, ...])
    assert_conserved(report)
    flow: PipelineRun = await nursery.start(pipeline.run)
    flow.drain(deadline=trio.current_time() + 5)
    flow.cancel()
    assert_type(flow.report(), PipelineReport)
    async with (urls | Processor(fetch) | Processor(rows)).open() as results:
        assert_type(results, Results[Row])
        async for row in results:
            assert_type(row, Row)
        results.drain()
        assert_type(results.report(), PipelineReport)
    try:
        await pipeline.run()
    except* ConcurrentError as group:
        assert_type(group, ExceptionGroup[ConcurrentError])
    except* BatchError:
        pass
    try:
        await pipeline.run()
    except Aborted as aborted:
        print(aborted.report)


async def letters(dead: trio.MemoryReceiveChannel[ConcurrentError]) -> None:
    async def redo(letter: ConcurrentError) -> str:
        return str(dead_letter_to_dict(letter)["item"])

    assert_type(Producer(dead) | Processor(redo), Producer[str])


async def kit() -> None:
    assert_type(await run_one(Processor(rows), Page()), list[Row])
    assert_type(await run_one(Processor(fetch) | Processor(rows), ""), list[Row])
    with no_backoff():
        await run_one(Consumer(store), Row())
    source, sink = ProbeSource[int](), ProbeSink[int]()
    source.give(5)
    assert_type(await sink.receive(), int)
    assert_type(Producer(source) | Consumer(sink), Pipeline)


dropped: Discard = DISCARD
