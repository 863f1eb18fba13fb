"""Steps and operations that take the tokens of their keys: ``limiter=hosts.by(...)``."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Aborted,
    Batch,
    Channels,
    Consumer,
    Many,
    Pipeline,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    Scalable,
    SharedLimiter,
    Skip,
    TooWide,
    Turnstile,
    open_turnstile,
    retry,
    run_phases,
)
from trio_turnstile.testing import assert_conserved, no_backoff

Url = tuple[str, int]
"""A host and a page of it."""


def host(url: Url) -> str:
    return url[0]


@attrs.define
class Web:
    """Hosts that take a second or less for a page."""

    seconds: dict[str, float] = attrs.field(factory=dict)
    busy: Counter[str] = attrs.field(factory=Counter)
    most: Counter[str] = attrs.field(factory=Counter)
    ended: dict[str, float] = attrs.field(factory=dict)
    """The time when the last page of each host was there."""
    order: list[Url] = attrs.field(factory=list)

    async def fetch(self, url: Url) -> Url:
        self.busy[host(url)] += 1
        self.most[host(url)] = max(self.most[host(url)], self.busy[host(url)])
        self.order.append(url)
        try:
            await trio.sleep(self.seconds.get(host(url), 0.05))
        finally:
            self.busy[host(url)] -= 1
        self.ended[host(url)] = trio.current_time()
        return url


def pages(name: str, number: int) -> list[Url]:
    return [(name, page) for page in range(number)]


def shared_by_two(turnstile: Turnstile, total: int = 40) -> SharedLimiter:
    return turnstile.shared("hosts", total, each=2)


async def test_a_slow_key_does_not_fill_the_window(autojump_clock: MockClock) -> None:
    """400 pages of a slow host come first; the others do not wait for them."""
    web = Web({"slow": 1})
    urls = pages("slow", 400) + [url for n in range(20) for url in pages(f"h{n}", 30)]
    async with open_turnstile() as turnstile:
        hosts, begin = shared_by_two(turnstile), trio.current_time()
        report = await (Producer(urls) | Consumer(web.fetch, limiter=hosts.by(host))).run()
        assert_conserved(report)
        assert hosts.statistics().active == 0
    others = [time - begin for name, time in web.ended.items() if name != "slow"]
    assert max(others) < 2
    assert web.ended["slow"] - begin == pytest.approx(200, rel=0.01)
    assert max(web.most.values()) == 2


async def test_a_later_step_is_not_filled_either(autojump_clock: MockClock) -> None:
    """Items from the step before go past those that wait for their key."""
    web = Web({"slow": 1})
    urls = pages("slow", 300) + pages("fast", 10)

    async def find(all_urls: list[Url]) -> Many[Url]:
        await trio.lowlevel.checkpoint()
        return Many(all_urls)

    async with open_turnstile() as turnstile:
        hosts, begin = shared_by_two(turnstile, 4), trio.current_time()
        report = await (
            Producer([urls])
            | Processor(find, limiter=1)
            | Consumer(web.fetch, limiter=hosts.by(host))
        ).run()
        assert_conserved(report)
    assert web.ended["fast"] - begin < 2


async def test_what_waits_for_a_key_is_bounded(autojump_clock: MockClock) -> None:
    """Beyond a certain number, the step reads no more until the key has caught up."""
    web, read = Web({"slow": 1}), 0

    def urls() -> Any:
        nonlocal read
        for url in [*pages("slow", 50), *pages("fast", 1), *pages("slow", 3)]:
            read += 1
            yield url

    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        hosts, begin = shared_by_two(turnstile), trio.current_time()
        pipeline: Pipeline = Producer(urls()) | Consumer(
            web.fetch, limiter=hosts.by(host, waiting=10)
        )
        nursery.start_soon(pipeline.run)
        await trio.sleep(0.5)
        assert 12 <= read <= 14
        await trio.sleep(5)
        assert 22 <= read <= 24
    assert web.ended["fast"] - begin == pytest.approx(20, abs=2)


async def test_many_keys_are_bounded_by_the_window(autojump_clock: MockClock) -> None:
    """A step does not read everything, even if every item has another key."""
    read = 0

    def urls() -> Any:
        nonlocal read
        for url in range(10_000):
            read += 1
            yield str(url), 0

    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        for window, expected in ((None, 10 + 64), (30, 30)):
            read = 0
            hosts = turnstile.shared("hosts", 10)
            pipeline: Pipeline = Producer(urls()) | Consumer(
                Web(dict.fromkeys(map(str, range(10_000)), math.inf)).fetch,
                limiter=hosts.by(host),
                window=window,
            )
            with trio.move_on_after(1):
                await pipeline.run()
            assert expected <= read <= expected + 1
        nursery.cancel_scope.cancel()


async def test_keys_take_turns_within_a_step(autojump_clock: MockClock) -> None:
    """Without limits of keys, too, the few items of one key do not wait for the many of another."""
    web = Web({"many": 1, "few": 1})
    async with open_turnstile() as turnstile:
        hosts, begin = turnstile.shared("tenants", 10), trio.current_time()
        await (
            Producer(pages("many", 500) + pages("few", 5))
            | Consumer(web.fetch, limiter=hosts.by(host))
        ).run()
    assert web.ended["few"] - begin <= 3


async def test_priorities_of_items(autojump_clock: MockClock) -> None:
    """The later page goes first if the priority function says so."""
    web = Web({"a": 1})
    async with open_turnstile() as turnstile:
        hosts = turnstile.shared("hosts", 1)
        by = hosts.by(host, priority=lambda url: url[1])
        await (Producer(pages("a", 5)) | Consumer(web.fetch, limiter=by)).run()
    assert [page for _, page in web.order] == [0, 4, 3, 2, 1]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=40),
    st.sampled_from(["plain", "ordered", "key", "batch", "fused"]),
)
@settings(deadline=None, max_examples=60)
def test_all_limits_hold_in_all_kinds_of_steps(urls: list[Url], kind: str) -> None:
    """With failures and retries, every item ends and all tokens are given back."""

    async def main() -> None:
        web, tries = Web(), Counter[Url]()

        async def fetch(url: Url) -> Many[Url]:
            await web.fetch(url)
            tries[url] += 1
            if (tries[url] + url[1]) % 3 == 0:
                raise OSError
            return Many([url] * url[1])

        async def fetch_all(batch: list[Url]) -> None:
            for url in batch:
                await fetch(url)

        async def nothing(url: Url) -> None:
            pass

        options: dict[str, Any] = {"on_error": [Retry(1, on=OSError), Skip()]}
        async with open_turnstile() as turnstile:
            hosts = turnstile.shared("hosts", 3, each=2)
            options["limiter"] = hosts.by(host, waiting=5)
            pipeline: Pipeline
            if kind == "batch":
                options["limiter"] = hosts.by(lambda batch: host(batch[0]))
                step = Consumer(fetch_all, batch=Batch(3, key=host), **options)
                pipeline = Producer(urls) | step
            elif kind == "fused":
                pipeline = Producer(urls) | Processor(fetch, **options) | Consumer(nothing)
            else:
                options |= {"ordered": True} if kind == "ordered" else {}
                options |= {"key": host} if kind == "key" else {}
                pipeline = Producer(urls) | Consumer(fetch, **options)
            with no_backoff():
                report = await pipeline.run()
            assert_conserved(report)
            assert report.steps[0].in_flight == 0
            assert max(web.most.values(), default=0) <= 2
            assert hosts.statistics().active == hosts.limiter.borrowed_tokens == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(0, 20))
@settings(deadline=None, max_examples=40)
def test_cancelling_at_any_moment_leaves_the_books_whole(names: list[str], moment: int) -> None:
    """Items that run, wait for their key, or just got their token give everything back."""

    async def main() -> None:
        web = Web(dict.fromkeys("abc", 1))
        async with open_turnstile() as turnstile:
            hosts = turnstile.shared("hosts", 3, each=2, every=0.5)
            pipeline: Pipeline = Producer((name, 0) for name in names) | Consumer(
                web.fetch, limiter=hosts.by(host, waiting=3), key=host
            )
            async with trio.open_nursery() as nursery:
                run = await nursery.start(pipeline.run)
                await trio.sleep(moment / 4)
                run.cancel()
            assert_conserved(run.report())
            assert hosts.statistics().active == hosts.limiter.borrowed_tokens == 0
            assert not web.busy.total()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_draining_ends_a_step_in_which_items_wait(autojump_clock: MockClock) -> None:
    """The items read are worked on, and no more are read."""
    web = Web({"slow": 1})
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        hosts = shared_by_two(turnstile)
        pipeline: Pipeline = Producer(pages("slow", 1000)) | Consumer(
            web.fetch, limiter=hosts.by(host, waiting=10)
        )
        run = await nursery.start(pipeline.run)
        await trio.sleep(3.5)
        run.drain()
    assert_conserved(run.report())
    assert 15 <= run.report().steps[0].completed <= 25


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"key": host}])
@pytest.mark.parametrize("bad", ["key", "hash", "priority", "weight"])
async def test_what_a_function_of_an_item_raises_fails_the_item(
    autojump_clock: MockClock, bad: str, options: dict[str, Any]
) -> None:
    """An error of a function of an item fails this item; the others go on, with order too."""
    web = Web()

    def wrong(url: Url) -> Any:
        if url[1] == 1:
            if bad == "hash":
                return []
            raise KeyError("no such")
        return {"key": "a", "hash": "a", "priority": 1, "weight": 2}[bad]

    async with open_turnstile() as turnstile:
        hosts = turnstile.shared("hosts", 3, each=2)
        key = wrong if bad in ("key", "hash") else host
        priority = wrong if bad == "priority" else None
        weight = wrong if bad == "weight" else None
        report = await (
            Producer(pages("a", 4))
            | Consumer(
                web.fetch,
                limiter=hosts.by(key, priority=priority),
                weight=weight,
                on_error=Skip(),
                **options,
            )
        ).run()
    assert_conserved(report)
    assert (report.steps[0].failed, report.steps[0].completed) == (1, 3)


async def test_a_priority_is_a_whole_number() -> None:
    """A priority that is not a whole number is an error of its item."""
    async with open_turnstile() as turnstile:
        half: Any = 1.5
        by = turnstile.shared("hosts", 3).by(host, priority=lambda _: half)
        with pytest.raises(Aborted) as caught:
            await (Producer(pages("a", 1)) | Consumer(Web().fetch, limiter=by)).run()
        assert "priority of an item must be a whole number" in str(caught.value.exceptions[0])


async def test_wider_than_the_limit_of_the_key(autojump_clock: MockClock) -> None:
    """An item wider than the limit of its key fails with an error that says so."""
    async with open_turnstile() as turnstile:
        hosts = turnstile.shared("hosts", 9, each=2)
        report = await (
            Producer(pages("a", 4))
            | Consumer(
                Web().fetch, limiter=hosts.by(host), weight=lambda url: url[1] + 1, on_error=Skip()
            )
        ).run()
    assert report.steps[0].failed == 2
    assert isinstance(report.errors[0].__cause__, TooWide)


async def test_items_that_wait_for_their_key_do_not_use_up_the_rate(
    autojump_clock: MockClock,
) -> None:
    """Items wait for the rate only when they have their token."""
    web = Web({"slow": 1})
    async with open_turnstile() as turnstile:
        hosts, begin = shared_by_two(turnstile), trio.current_time()
        await (
            Producer(pages("slow", 40) + pages("fast", 10))
            | Consumer(web.fetch, limiter=hosts.by(host), rate=RateLimiter(10))
        ).run()
    assert web.ended["fast"] - begin < 2


async def test_one_call_with_retries_takes_the_token_of_its_key(
    autojump_clock: MockClock,
) -> None:
    """A portion can stand in for a limiter; each attempt takes its token anew."""
    web, failed = Web(), list[int]()

    async def fetch(url: Url) -> Url:
        assert hosts.statistics().busiest[0].running == 1
        if not failed:
            failed.append(1)
            raise OSError
        return await web.fetch(url)

    async with open_turnstile() as turnstile:
        hosts = shared_by_two(turnstile)
        way = hosts.of("a")
        assert await retry(Retry(2), fetch, ("a", 1), limiter=way) == ("a", 1)
        assert hosts.limiter.borrowed_tokens == 0


async def test_a_run_inside_of_a_step_is_lent_the_token(autojump_clock: MockClock) -> None:
    """A run inside a step is lent its token, and the step gets it back afterwards."""
    async with open_turnstile() as turnstile:
        hosts = turnstile.shared("hosts", 1)
        by: Any = hosts.by(lambda _: "a")

        async def inner(url: Url) -> None:
            await (Producer([url]) | Consumer(Web().fetch, limiter=by)).run()
            assert hosts.limiter.borrowed_tokens == 1

        report = await (Producer(pages("a", 3)) | Consumer(inner, limiter=by)).run()
    assert report.steps[0].completed == 3


async def test_closing_the_limiter_ends_the_run(autojump_clock: MockClock) -> None:
    """The items that wait for their keys end, too."""
    async with open_turnstile() as turnstile:
        hosts = shared_by_two(turnstile)

        async def close(url: Url) -> None:
            await wait_all_tasks_blocked()
            hosts.limiter.close()

        with pytest.raises(Aborted) as caught:
            await (Producer(pages("a", 9)) | Consumer(close, limiter=hosts.by(host))).run()
        assert_conserved(caught.value.report)


# ---- operations ----


@attrs.define(eq=False)
class Visit(Scalable):
    """An operation at a host."""

    url: Url
    web: Web

    async def work(self, channels: Channels) -> None:
        await self.web.fetch(self.url)


@pytest.mark.parametrize("prepare", [None, 20])
async def test_operations_take_the_token_of_their_key(
    autojump_clock: MockClock, prepare: int | None
) -> None:
    """The token is held for all phases, or for work if preparing has its own tokens."""
    web = Web({"slow": 1})
    async with open_turnstile() as turnstile:
        hosts, begin = shared_by_two(turnstile), trio.current_time()
        visits = [Visit(url, web) for url in pages("slow", 60) + pages("fast", 20)]
        report = await run_phases(
            visits,
            limiter=hosts.by(lambda visit: visit.url[0]),
            prepare_limiter=prepare,
            window=None if prepare is None else 100,
        )
        assert_conserved(report)
        assert report.completed == 80
        assert web.most == {"slow": 2, "fast": 2}
        assert web.ended["fast"] - begin < 2
        assert hosts.limiter.borrowed_tokens == 0
