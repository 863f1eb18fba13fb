"""Back-pressure: the window of a step holds the source back."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.pipelines import CountedSource, Gauge, account, add_one, into
from trio_turnstile import Consumer, Limiter, Processor, Producer, Retry, Skip
from trio_turnstile.testing import assert_conserved


async def test_without_a_limiter_the_window_bounds(autojump_clock: MockClock) -> None:
    """A step without a limiter is bounded by its window: 64 by default."""
    wide, narrow = Gauge(), Gauge()
    await (Producer(range(200)) | Processor(wide) | Consumer(narrow, window=3)).run()
    assert (wide.most, narrow.most) == (64, 3)


async def test_a_slow_sink_holds_the_source_back(autojump_clock: MockClock) -> None:
    """A slow sink holds the source back once all windows are full."""
    source = CountedSource()

    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (
                Producer(source)
                | Processor(add_one, window=3)
                | Processor(add_one, limiter=2, window=4)
                | Consumer(into([], seconds=10), limiter=1, window=5)
            ).run
        )
        await trio.sleep(5)
        assert [step.in_flight for step in run.steps] == [3, 4, 5]
        assert source.taken == 12
        assert_conserved(run)
        run.cancel()
    assert account(run)["store"] == (5, 0, 0, 0, 0, 5)


async def test_results_nobody_asks_for_hold_the_source_back() -> None:
    """Without a consumer, the source is read at the pace of the iteration."""
    source = CountedSource()

    async with (Producer(source) | Processor(add_one, window=5)).open() as results:
        await wait_all_tasks_blocked()
        assert source.taken == 5
        await anext(results)
        await wait_all_tasks_blocked()
        assert source.taken == 6
        assert results.steps[0].in_flight == 5


async def test_the_default_window_is_the_limit_and_a_little(autojump_clock: MockClock) -> None:
    """The default window is the limit plus 64: with a limit of 10 it holds 74 items."""

    async def fail(number: int) -> None:
        raise OSError

    policies = [Retry(1, backoff=lambda n: 100), Skip()]
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (Producer(range(500)) | Consumer(fail, limiter=10, on_error=policies)).run
        )
        await trio.sleep(5)
        assert run.steps[0].in_flight == 74
        run.cancel()
    assert account(run)["fail"] == (74, 0, 0, 0, 0, 74)


async def test_the_default_window_follows_the_limit(autojump_clock: MockClock) -> None:
    """The default window shrinks with the limit: items in hand finish before others come in."""
    limiter = Limiter("api", 100)
    async with trio.open_nursery() as nursery:
        run = await nursery.start(
            (
                Producer(range(999))
                | Processor(add_one)
                | Consumer(into([], seconds=1), limiter=limiter)
            ).run
        )
        await trio.sleep(0.5)
        assert run.steps[1].in_flight == 164
        limiter.total_tokens = 2
        await trio.sleep(1)
        assert run.steps[1].in_flight == 66
        await trio.sleep(5)
        assert run.steps[1].in_flight == 66
        run.cancel()
    assert_conserved(run)
