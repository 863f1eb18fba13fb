"""Pipelines that a user must not write: each marked line is an error to mypy and to pyright.

Both report an unneeded ignore as an error here, so it is noticed if one of them comes to
accept a wrong use.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator, Iterator

import trio

from trio_turnstile import (
    Batch,
    BatchError,
    ConcurrentError,
    Consumer,
    DeadLetter,
    Discard,
    Many,
    Pipeline,
    Processor,
    Producer,
    Retry,
    Skip,
    Turnstile,
    amap,
    amap_list,
)
from trio_turnstile.testing import ProbeSink, run_one


class Page:
    """A page that is fetched."""


class Row:
    """A row of a page."""


async def fetch(url: str) -> Page:
    return Page()


async def rows(page: Page) -> Many[Row]:
    return Many([Row()])


async def each_row(page: Page) -> AsyncIterator[Row]:
    yield Row()


def each_at_once(page: Page) -> Iterator[Row]:
    yield Row()


async def row_or_not(page: Page) -> Row | Discard:
    return Row()


async def maybe_row(page: Page) -> Row | None:
    return None


async def store(row: Row) -> None:
    pass


async def store_all(rows: list[Row]) -> None:
    pass


async def join(rows: list[Row]) -> Page:
    return Page()


async def two(one: Row, other: Row) -> None:
    pass


async def fetch_page(cursor: int) -> tuple[list[Row], int | None]:
    return [], None


def not_async(row: Row) -> Row:
    return row


urls = Producer(["https://example.org"])
pages = urls | Processor(fetch)

# ---- joints ----

urls | Processor(rows)  # type: ignore[arg-type]
urls | Consumer(store)  # type: ignore[arg-type]
pages | Processor(fetch)  # type: ignore[arg-type]
pages | Consumer(store)  # type: ignore[arg-type]
pages | Processor(each_row) | Processor(rows)  # type: ignore[arg-type]
pages | Processor(row_or_not) | Processor(rows)  # type: ignore[arg-type]
pages | Processor(maybe_row) | Consumer(store)  # type: ignore[arg-type]
pages | Processor(rows) | Consumer(fetch)  # type: ignore[arg-type]
pages | (Processor(row_or_not) | Consumer(fetch))  # type: ignore[arg-type]
Processor(fetch) | Processor(fetch)  # type: ignore[arg-type]
Processor(fetch) | Consumer(store)  # type: ignore[arg-type]
Processor(rows) | Consumer(store) | Processor(rows)  # type: ignore[operator]
Consumer(store) | Consumer(store)  # type: ignore[operator]
Processor(fetch) | urls  # type: ignore[operator]
urls | urls  # type: ignore[operator]
urls | fetch  # type: ignore[operator]
pages | Processor(rows) | Consumer(store) | Consumer(store)  # type: ignore[operator]
pages | Consumer(store_all, batch=Batch(5))  # type: ignore[arg-type]
Producer.pages(fetch_page, 0) | Processor(fetch)  # type: ignore[arg-type]
Producer.merge(urls, Producer([b""])) | Processor(fetch)  # type: ignore[arg-type]

# ---- steps ----

Processor(not_async)  # type: ignore[arg-type]
Processor(each_at_once)  # type: ignore[arg-type]
Consumer(each_row)  # type: ignore[arg-type]
Processor(5)  # type: ignore[call-overload]
Processor()  # type: ignore[call-overload]
Processor(fetch, 5)  # type: ignore[call-overload]
Processor(fetch, limiter="5")  # type: ignore[call-overload]
Processor(fetch, limiter=trio.Semaphore(5))  # type: ignore[call-overload]
Processor(fetch, window=2.5)  # type: ignore[call-overload]
Processor(fetch, timeout="5s")  # type: ignore[call-overload]
Processor(fetch, on_error=[Skip])  # type: ignore[arg-type, list-item]
Processor(fetch, key=5)  # type: ignore[call-overload]
Processor(fetch, batch=Batch(5))  # type: ignore[arg-type]
Processor(join, batch=5)  # type: ignore[call-overload]
Processor(join, batch=Batch(5), ordered=True)  # type: ignore[call-overload]
Processor(join, batch=Batch(5)) | Consumer(store_all)  # type: ignore[arg-type]
pages | Processor(join, batch=Batch(5))  # type: ignore[arg-type]
Consumer(two)  # type: ignore[arg-type]
Consumer(store, batch=Batch(5))  # type: ignore[arg-type]
Consumer(store_all, batch=5)  # type: ignore[call-overload]
Consumer(store_all, batch=Batch(5), ordered=True)  # type: ignore[call-overload]
Consumer(store_all, batch=Batch(5), key=id)  # type: ignore[call-overload]

# ---- one function for many items ----


async def maps() -> None:
    amap(fetch, [5])  # type: ignore[arg-type, misc]
    amap(fetch)  # type: ignore[call-overload]
    amap(not_async, [Row()])  # type: ignore[arg-type]
    amap(fetch, ["a"], 5)  # type: ignore[call-overload]
    amap(fetch, ["a"], limiter="5")  # type: ignore[call-overload]
    amap(fetch, ["a"], batch=Batch(5))  # type: ignore[call-overload]
    with amap(fetch, ["a"]):  # type: ignore[attr-defined]
        pass
    async with amap(fetch, ["a"]) as pages_of_a:
        async for page in pages_of_a:
            await store(page)  # type: ignore[arg-type]
    for page in await amap_list(fetch, ["a"]):
        await store(page)  # type: ignore[arg-type]
    amap_list(fetch, ["a"])  # type: ignore[unused-coroutine]
    await amap_list(fetch, ["a"], ordered=True)  # type: ignore[call-overload]
    await amap_list(fetch, ["a"], key=len)  # type: ignore[call-overload]


# ---- sources and batches ----

Producer(5)  # type: ignore[arg-type]
Producer(["a"], ["b"])  # type: ignore[call-arg, arg-type]
Producer(fetch)  # type: ignore[arg-type]
Producer.pages(fetch_page, "start")  # type: ignore[arg-type]
Producer.pages(fetch, "start")  # type: ignore[arg-type]
Producer.merge(["a"], ["b"])  # type: ignore[arg-type]
Batch("5")  # type: ignore[arg-type]
Batch(5, 1.0)  # type: ignore[call-arg]
Batch(within="1s")  # type: ignore[arg-type]
Batch(5, key="name")  # type: ignore[arg-type]
Batch(until=5)  # type: ignore[arg-type]
Batch(5).size = 6  # type: ignore[misc]
BatchError([OSError()])  # type: ignore[arg-type]
BatchError({"row": OSError()})  # type: ignore[dict-item]
BatchError({}, passed_on=5)  # type: ignore[arg-type]
Many(5)  # type: ignore[arg-type]


# ---- runs ----


async def runs(pipeline: Pipeline, consumer: Consumer[Row]) -> None:
    await urls.run()  # type: ignore[attr-defined]
    await pipeline.run(5)  # type: ignore[call-arg]
    pipeline.run()  # type: ignore[unused-coroutine]
    pipeline.open()  # type: ignore[attr-defined]
    report = await pipeline.run()
    print(report[0])  # type: ignore[index]
    print(report.completed)  # type: ignore[attr-defined]
    async with pages.open() as results:
        async for page in results:
            await store(page)  # type: ignore[arg-type]
        await results.drain()  # type: ignore[func-returns-value, misc]
    await run_one(consumer, "row")  # type: ignore[misc]
    await run_one(Processor(fetch), 5)  # type: ignore[misc]
    ProbeSink[int]() | consumer  # type: ignore[operator]


# ---- policies ----

numbers, _ = trio.open_memory_channel[int](1)
letters, _dead = trio.open_memory_channel[ConcurrentError](1)
DeadLetter(numbers)  # type: ignore[arg-type]
DeadLetter(_dead)  # type: ignore[arg-type]
DeadLetter(letters, OSError)  # type: ignore[call-arg]
Retry(3, budget=10)  # type: ignore[arg-type]


# ---- tokens by key and weight ----


def key_of(row: Row) -> int:
    raise NotImplementedError


async def wrong_shares(turnstile: Turnstile) -> None:
    hosts = turnstile.shared("hosts", 40, every="1s")  # type: ignore[arg-type]
    Processor(fetch, limiter=hosts.by(key_of))  # type: ignore[arg-type]
    Processor(fetch, limiter=hosts)  # type: ignore[call-overload]
    Processor(fetch, limiter=5, weight="2")  # type: ignore[call-overload]
    hosts.of("a", tokens="2")  # type: ignore[arg-type]
    hosts.limiter.tokens("4")  # type: ignore[arg-type]
