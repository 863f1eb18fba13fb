"""Pipelines: what steps do with items, side by side, and what a run answers for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self

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
    PipelineReport,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    Skip,
    Throttle,
)
from trio_turnstile.testing import assert_conserved

Account = dict[str, tuple[int, int, int, int, int, int]]


def account(of: PipelineReport | PipelineRun) -> Account:
    """Received, completed, discarded, failed, diverted and cancelled, by step."""
    assert_conserved(of)
    return {
        step.name: (
            step.received,
            step.completed,
            step.discarded,
            step.failed,
            step.diverted,
            step.cancelled,
        )
        for step in of.steps
    }


async def add_one(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return number + 1


def into(basket: list[Any], *, seconds: float = 0) -> Callable[[Any], Awaitable[None]]:
    """A sink that puts things into a basket."""

    async def store(item: Any) -> None:
        await trio.sleep(seconds)
        basket.append(item)

    return store


class Meter:
    """Counts how many calls run at a time; each takes a second, or as long as it is told."""

    def __init__(self, seconds: float = 1) -> None:
        self.seconds = seconds
        self.running = self.most = self.calls = 0

    async def __call__(self, item: Any) -> Any:
        self.running += 1
        self.calls += 1
        self.most = max(self.most, self.running)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.running -= 1
        return item


class Source:
    """Counts what is taken."""

    taken = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(1000):
            self.taken += 1
            yield number


# ---- what comes out ----


async def test_items_go_through_all_steps() -> None:
    """Each item goes through the steps in turn, and the account has a line for each."""
    stored: list[int] = []
    pipeline = (
        Producer(range(10))
        | Processor(add_one, limiter=3, name="first")
        | Processor(add_one, name="second")
        | Consumer(into(stored), limiter=2)
    )
    report = await pipeline.run()
    assert sorted(stored) == list(range(2, 12))
    assert account(report) == dict.fromkeys(("first", "second", "store"), (10, 10, 0, 0, 0, 0))
    assert (report.errors, report.errors_omitted) == ((), 0)


@pytest.mark.parametrize("limiter", [None, 2], ids=["fused", "apart"])
async def test_discard_drops_and_many_passes_several_on(limiter: int | None) -> None:
    """`DISCARD` is the end of an item; `Many` makes several of one, or none."""
    stored: list[int] = []

    async def spread(number: int) -> Any:
        await trio.lowlevel.checkpoint()
        return DISCARD if number == 0 else Many(range(number))

    async def keep_odd(number: int) -> Any:
        await trio.lowlevel.checkpoint()
        return number if number % 2 else DISCARD

    report = await (
        Producer([0, 1, 2, 3])
        | Processor(spread)
        | Processor(keep_odd, limiter=limiter)
        | Consumer(into(stored), limiter=limiter)
    ).run()
    assert sorted(stored) == [1, 1]
    assert account(report) == {
        "spread": (4, 3, 1, 0, 0, 0),
        "keep_odd": (6, 2, 4, 0, 0, 0),
        "store": (2, 2, 0, 0, 0, 0),
    }


def test_discard_shows_its_name() -> None:
    """In a debugger or a log it is readable."""
    assert repr(DISCARD) == "DISCARD"


@pytest.mark.parametrize("limiter", [None, 2], ids=["fused", "apart"])
async def test_many_of_nothing_completes(limiter: int | None) -> None:
    """An empty `Many` passes nothing on, and the item is completed, not discarded."""

    async def vanish(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(())

    report = await (
        Producer([1, 2]) | Processor(vanish) | Consumer(into([]), limiter=limiter)
    ).run()
    assert account(report) == {"vanish": (2, 2, 0, 0, 0, 0), "store": (0, 0, 0, 0, 0, 0)}


async def test_many_is_gone_through_at_once() -> None:
    """An error in what `Many` is made of is the error of the step that made it."""

    def two_and_an_error() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("third")

    async def spread(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(two_and_an_error())

    stored: list[int] = []
    report = await (
        Producer([1]) | Processor(spread, on_error=[Skip()]) | Consumer(into(stored))
    ).run()
    assert account(report)["spread"] == (1, 0, 0, 1, 0, 0)
    assert stored == []


async def test_many_may_come_out_last() -> None:
    """What the last step spreads comes out one by one; a consumer's `Many` goes nowhere."""

    async def spread(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(range(number))

    async with (Producer([2, 3]) | Processor(add_one) | Processor(spread)).open() as results:
        assert sorted([number async for number in results]) == [0, 0, 1, 1, 2, 2, 3]
    report = await (Producer([2]) | Processor(add_one) | Consumer(spread)).run()
    assert account(report) == {"add_one": (1, 1, 0, 0, 0, 0), "spread": (1, 1, 0, 0, 0, 0)}


async def test_steps_join_in_any_grouping() -> None:
    """Steps joined first among themselves make the same pipeline."""
    for pipeline in (
        Producer([1]) | Processor(add_one) | Processor(add_one) | Consumer(add_one),
        Producer([1]) | (Processor(add_one) | Processor(add_one)) | Consumer(add_one),
        Producer([1]) | (Processor(add_one) | Processor(add_one) | Consumer(add_one)),
        Producer([1]) | (Processor(add_one) | (Processor(add_one) | Consumer(add_one))),
    ):
        assert list(account(await pipeline.run())) == ["add_one", "add_one-2", "add_one-3"]


@pytest.mark.parametrize("other", [5, add_one, Producer([1])])
def test_other_things_do_not_join(other: Any) -> None:
    """Only steps can be joined to a producer or a processor."""
    for left in (Producer([1]), Processor(add_one)):
        with pytest.raises(TypeError, match="unsupported operand"):
            left | other


async def test_a_pipeline_runs_any_number_of_times() -> None:
    """A pipeline is a plan: each run, even beside another, has books of its own."""
    stored: list[int] = []
    pipeline = Producer(range(5)) | Processor(add_one, limiter=2) | Consumer(into(stored))
    await pipeline.run()
    async with trio.open_nursery() as nursery:
        flows = [await nursery.start(pipeline.run) for _ in range(2)]
    assert sorted(stored) == sorted([*range(1, 6)] * 3)
    for flow in flows:
        assert account(flow)["add_one"] == (5, 5, 0, 0, 0, 0)


async def test_the_report_finds_steps_by_name() -> None:
    """A step is found by its name, and one that is not there says which there are."""
    report = await (Producer([1]) | Processor(add_one, name="a") | Consumer(into([]))).run()
    assert report["a"] is report.steps[0]
    with pytest.raises(KeyError, match="no step is named 'b'; there are: a, store"):
        report["b"]


# ---- what may be a step ----


class Client:
    """A connection: opened for a run, and itself the function."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        self.log.append("open")
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.lowlevel.checkpoint()
        self.log.append("close")

    async def __call__(self, item: int) -> int:
        await trio.lowlevel.checkpoint()
        self.log.append("call")
        return item


async def test_a_context_manager_is_open_for_the_run() -> None:
    """A step with a connection opens it once for each run, and closes it after the last item."""
    client = Client()
    pipeline = Producer(range(2)) | Processor(client, limiter=2) | Consumer(add_one)
    for _ in range(2):
        client.log.clear()
        account(await pipeline.run())
        assert client.log == ["open", "call", "call", "close"]


async def test_a_context_manager_may_give_the_function() -> None:
    """What an async context manager gives is called with the items."""
    state: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        state.append("open")
        yield add_one
        state.append("closed")

    async with (Producer([1]) | Processor(connect(), name="c")).open() as results:
        assert [number async for number in results] == [2]
    assert state == ["open", "closed"]


async def test_a_context_manager_is_closed_after_an_abort() -> None:
    """The connection is closed too if the run is aborted, and may await for it."""

    class Breaks(Client):
        async def __call__(self, item: int) -> int:
            await trio.lowlevel.checkpoint()
            raise ValueError

    client = Breaks()
    with pytest.raises(Aborted):
        await (Producer([1]) | Consumer(client)).run()
    assert client.log == ["open", "close"]


async def test_a_context_manager_that_gives_no_function_says_so() -> None:
    """If neither it nor what it gives can be called, the run does not begin."""

    class Silent:
        async def __aenter__(self) -> int:
            await trio.lowlevel.checkpoint()
            return 5

        async def __aexit__(self, *_: object) -> None:
            await trio.lowlevel.checkpoint()

    step: Any = Consumer(Silent(), name="silent")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="step 'silent' is an async context manager that gives 5"):
        await (Producer([1]) | step).run()


async def test_an_object_with_call_is_a_step(autojump_clock: MockClock) -> None:
    """A class with state needs no base class, and gives the step its name."""
    meter = Meter()
    report = await (Producer(range(4)) | Consumer(meter, limiter=2)).run()
    assert account(report) == {"Meter": (4, 4, 0, 0, 0, 0)}
    assert (meter.calls, meter.most) == (4, 2)


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"window": 0}, ValueError, "window must be at least 1, not 0"),
        ({"window": 2.5}, TypeError, "window must be an int, not 2.5"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0 seconds, not 0"),
        ({"limiter": -1}, ValueError, "limiter must be at least 0, not -1"),
        ({"limiter": "2"}, TypeError, "limiter must be a Limiter, a trio.CapacityLimiter or a"),
        ({"ordered": True, "key": len}, ValueError, "ordered or has a key, not both"),
    ],
)
def test_wrong_options_say_which_rule_they_break(
    options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """A wrong option is refused where the step is made, with its value and the rule."""
    for kind in (Processor, Consumer):
        with pytest.raises(error, match=rule):
            kind(add_one, **options)


def test_wrong_steps_and_batches_are_refused() -> None:
    """A step must be callable, and batches go with neither order nor a narrow window."""
    step: Any = 5
    with pytest.raises(TypeError, match="an async function or an async context manager, not 5"):
        Processor(step)
    consumer: Any = Consumer
    for options in ({"ordered": True}, {"key": len}):
        with pytest.raises(ValueError, match="batches have no order"):
            consumer(add_one, batch=Batch(2), **options)
    with pytest.raises(ValueError, match="a window of 2 items never fills a batch of 3"):
        consumer(add_one, batch=Batch(3), window=2)


# ---- fusion ----


async def test_steps_without_limits_run_in_the_task_of_the_step_before() -> None:
    """Consecutive steps that need nothing of their own share one task; others do not."""
    tasks: list[list[trio.lowlevel.Task]] = []

    async def begin(number: int) -> list[trio.lowlevel.Task]:
        await trio.lowlevel.checkpoint()
        return [trio.lowlevel.current_task()]

    async def note(seen: list[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
        await trio.lowlevel.checkpoint()
        return [*seen, trio.lowlevel.current_task()]

    async def end(seen: list[trio.lowlevel.Task]) -> None:
        await trio.lowlevel.checkpoint()
        tasks.append([*seen, trio.lowlevel.current_task()])

    await (
        Producer([1])
        | Processor(begin, limiter=2)
        | Processor(note, timeout=9, on_error=[Skip()])
        | Processor(note, limiter=2)
        | Consumer(end)
    ).run()
    ((a, b, c, d),) = tasks
    assert a is b
    assert c is d
    assert b is not c


async def test_fused_steps_hold_no_token(autojump_clock: MockClock) -> None:
    """The token is the limited step's alone: the steps behind it go on without."""
    first, second = Meter(), Meter(5)
    await (Producer(range(6)) | Processor(first, limiter=2) | Consumer(second)).run()
    assert (first.most, second.most) == (2, 6)
    assert trio.current_time() == 8


# ---- limits ----


@pytest.mark.parametrize("make", [int, trio.CapacityLimiter, partial(Limiter, "api")])
async def test_any_limiter_bounds_a_step(autojump_clock: MockClock, make: Any) -> None:
    """A number, trio's limiter and ours bound a step in the same way."""
    meter = Meter()
    report = await (Producer(range(10)) | Consumer(meter, limiter=make(2))).run()
    assert account(report)["Meter"] == (10, 10, 0, 0, 0, 0)
    assert (meter.most, trio.current_time()) == (2, 5)


async def test_without_a_limiter_the_window_bounds(autojump_clock: MockClock) -> None:
    """No limiter leaves it to the window: 64, or what it is set to."""
    wide, narrow = Meter(), Meter()
    await (Producer(range(200)) | Processor(wide) | Consumer(narrow, window=3)).run()
    assert (wide.most, narrow.most) == (64, 3)


async def test_slow_items_do_not_hold_up_fast_ones(autojump_clock: MockClock) -> None:
    """Fast items overtake slow ones."""
    stored: list[float] = []

    async def work(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    await (Producer([9, 1, 1, 1]) | Processor(work, limiter=2) | Consumer(into(stored))).run()
    assert stored == [1, 1, 1, 9]
    assert trio.current_time() == 9


async def test_stages_run_side_by_side(autojump_clock: MockClock) -> None:
    """One stage works on an item while the one before works on the next."""
    await (
        Producer(range(10))
        | Processor(Meter(), limiter=1)
        | Processor(Meter(), limiter=1)
        | Consumer(Meter(), limiter=1)
    ).run()
    assert trio.current_time() == 12


@pytest.mark.parametrize("make", [trio.CapacityLimiter, partial(Limiter, "both")])
async def test_one_token_over_two_stages_is_no_deadlock(
    autojump_clock: MockClock, make: Any
) -> None:
    """Stages that share a limiter share its tokens, even if there is but one."""
    limiter = make(1)
    meter = Meter()
    report = await (
        Producer(range(20))
        | Processor(meter, limiter=limiter, window=1, name="one")
        | Processor(meter, limiter=limiter, window=1, name="two")
        | Consumer(meter, limiter=limiter, window=1, name="three")
    ).run()
    assert account(report) == dict.fromkeys(("one", "two", "three"), (20, 20, 0, 0, 0, 0))
    assert (meter.most, trio.current_time()) == (1, 60)


@pytest.mark.parametrize("make", [trio.CapacityLimiter, partial(Limiter, "both")])
async def test_pipelines_behind_one_busy_limiter_all_begin(
    autojump_clock: MockClock, make: Any
) -> None:
    """When a stranger gives back the last token, those who queue for it do not pass it round."""
    limiter = make(1)
    async with trio.open_nursery() as nursery:
        async with limiter:
            flows = [
                await nursery.start((Producer(range(3)) | Consumer(Meter(), limiter=limiter)).run)
                for _ in range(3)
            ]
            await wait_all_tasks_blocked()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert any(flow.steps[0].received for flow in flows)
    assert [account(flow)["Meter"][:2] for flow in flows] == [(3, 3)] * 3
    assert trio.current_time() == 9


async def test_the_limit_moves_while_the_pipeline_runs(autojump_clock: MockClock) -> None:
    """A raised limit is used at once, a lowered one lets holders finish, and 0 pauses."""
    limiter = Limiter("api", 1, throttle=Throttle(min=0))
    meter = Meter(10)
    running: list[int] = []
    async with trio.open_nursery() as nursery:
        flow = await nursery.start((Producer(range(999)) | Consumer(meter, limiter=limiter)).run)
        for tokens in (1, 8, 3, 0, 2):
            limiter.total_tokens = tokens
            await trio.sleep(1)
            just_after = meter.running
            await trio.sleep(20)
            running += [just_after, meter.running]
        flow.cancel()
    assert running == [1, 1, 8, 8, 8, 3, 3, 0, 2, 2]
    assert account(flow)["Meter"][-1] >= 2


# ---- back-pressure ----


async def test_a_slow_sink_holds_the_source_back(autojump_clock: MockClock) -> None:
    """No more is taken from the source than the windows have room for."""
    source = Source()

    async with trio.open_nursery() as nursery:
        flow = await nursery.start(
            (
                Producer(source)
                | Processor(add_one, window=3)
                | Processor(add_one, limiter=2, window=4)
                | Consumer(into([], seconds=10), limiter=1, window=5)
            ).run
        )
        await trio.sleep(5)
        assert [step.in_flight for step in flow.steps] == [3, 4, 5]
        assert source.taken == 12
        assert_conserved(flow)
        flow.cancel()
    assert account(flow)["store"] == (5, 0, 0, 0, 0, 5)


async def test_results_nobody_asks_for_hold_the_source_back() -> None:
    """Without a consumer, who iterates sets the pace."""
    source = Source()

    async with (Producer(source) | Processor(add_one, window=5)).open() as results:
        await wait_all_tasks_blocked()
        assert source.taken == 5
        await anext(results)
        await wait_all_tasks_blocked()
        assert source.taken == 6
        assert results.steps[0].in_flight == 5


async def test_the_default_window_is_the_limit_and_a_little(autojump_clock: MockClock) -> None:
    """With a limit of 10, 74 items may back off before the source is held back."""

    async def fail(number: int) -> None:
        raise OSError

    policies = [Retry(1, backoff=lambda n: 100), Skip()]
    async with trio.open_nursery() as nursery:
        flow = await nursery.start(
            (Producer(range(500)) | Consumer(fail, limiter=10, on_error=policies)).run
        )
        await trio.sleep(5)
        assert flow.steps[0].in_flight == 74
        flow.cancel()
    assert account(flow)["fail"] == (74, 0, 0, 0, 0, 74)


async def test_the_default_window_follows_the_limit(autojump_clock: MockClock) -> None:
    """With the limit lowered, no more comes in until no more is in hand than there is room for."""
    limiter = Limiter("api", 100)
    async with trio.open_nursery() as nursery:
        flow = await nursery.start(
            (
                Producer(range(999))
                | Processor(add_one)
                | Consumer(into([], seconds=1), limiter=limiter)
            ).run
        )
        await trio.sleep(0.5)
        assert flow.steps[1].in_flight == 164
        limiter.total_tokens = 2
        await trio.sleep(1)
        assert flow.steps[1].in_flight == 66
        await trio.sleep(5)
        assert flow.steps[1].in_flight == 66
        flow.cancel()
    assert_conserved(flow)


async def test_books_balance_while_it_runs(autojump_clock: MockClock) -> None:
    """At every instant what was received has a fate or is in flight."""

    async def sometimes(number: int) -> Any:
        await trio.sleep(number % 7 / 10)
        if number % 5 == 0:
            raise OSError
        return DISCARD if number % 3 == 0 else Many([number] * 2)

    batches: list[int] = []

    async def store(numbers: list[int]) -> None:
        await trio.sleep(0.3)
        batches.append(len(numbers))

    pipeline = (
        Producer(range(200))
        | Processor(sometimes, limiter=4, on_error=[Retry(1), Skip()])
        | Processor(add_one)
        | Consumer(store, limiter=1, batch=Batch(7, within=1))
    )
    looks = 0
    async with trio.open_nursery() as nursery:
        flow: PipelineRun = await nursery.start(pipeline.run)
        while any(step.in_flight for step in flow.steps) or not looks:
            assert_conserved(flow)
            looks += 1
            await trio.sleep(0.05)
    assert looks > 100
    assert sum(batches) == flow.steps[-1].completed == 2 * flow.steps[0].completed
    assert account(flow)["sometimes"][3] == 40


# ---- what it must show ----


async def test_latency_case_takes_little_more_than_its_work(autojump_clock: MockClock) -> None:
    """Rare slow items hold nobody up: the total is within 5 % of work over tokens."""
    tokens, items = 10, 10_000

    async def work(number: int) -> int:
        await trio.sleep(2 if number % 100 == 0 else 0.05)
        return number

    stored: list[int] = []
    report = await (
        Producer(range(items)) | Processor(work, limiter=tokens) | Consumer(into(stored))
    ).run()
    bound = (items * 0.99 * 0.05 + items * 0.01 * 2) / tokens
    assert bound <= trio.current_time() <= 1.05 * bound
    assert account(report)["work"] == (items, items, 0, 0, 0, 0)
    assert sorted(stored) == list(range(items))


async def test_backoff_holds_no_token(autojump_clock: MockClock) -> None:
    """40 items that fail twice, 1 s of back-off and 5 tokens take 3 s, not 18."""
    failures = Counter[int]()

    async def flaky(number: int) -> None:
        await trio.sleep(0.1)
        failures[number] += 1
        if failures[number] <= 2:
            raise OSError("not yet")

    policies = [Retry(2, backoff=lambda n: 1)]
    report = await (Producer(range(40)) | Consumer(flaky, limiter=5, on_error=policies)).run()
    assert account(report)["flaky"] == (40, 40, 0, 0, 0, 0)
    assert report["flaky"].retried == 80
    assert trio.current_time() <= 3.1


async def test_a_limit_may_be_infinite(autojump_clock: MockClock) -> None:
    """An infinite limit needs a window to bound it."""
    meter = Meter()
    await (Producer(range(100)) | Consumer(meter, limiter=math.inf, window=50)).run()  # type: ignore[call-overload]
    assert meter.most == 50
