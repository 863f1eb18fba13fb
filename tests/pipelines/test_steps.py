"""What steps do with items, and what can be a step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Self

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import Gauge, account, add_one, into
from trio_turnstile import DISCARD, Aborted, Batch, Consumer, Many, Processor, Producer, Skip


async def test_items_go_through_all_steps() -> None:
    """Each item goes through the steps in turn, and the report counts it in each."""
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
    """`DISCARD` ends an item; `Many` passes any number of items on."""
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
    """The repr of `DISCARD` is its name."""
    assert repr(DISCARD) == "DISCARD"


@pytest.mark.parametrize("limiter", [None, 2], ids=["fused", "apart"])
async def test_many_of_nothing_completes(limiter: int | None) -> None:
    """An empty `Many` passes nothing on, and its item counts as completed."""

    async def vanish(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(())

    report = await (
        Producer([1, 2]) | Processor(vanish) | Consumer(into([]), limiter=limiter)
    ).run()
    assert account(report) == {"vanish": (2, 2, 0, 0, 0, 0), "store": (0, 0, 0, 0, 0, 0)}


async def test_many_is_gone_through_at_once() -> None:
    """If the iterable of a `Many` raises, the step that returned it fails."""

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
    """The items of a last `Many` are results one by one; a consumer's `Many` is ignored."""

    async def spread(number: int) -> Many[int]:
        await trio.lowlevel.checkpoint()
        return Many(range(number))

    async with (Producer([2, 3]) | Processor(add_one) | Processor(spread)).open() as results:
        assert sorted([number async for number in results]) == [0, 0, 1, 1, 2, 2, 3]
    report = await (Producer([2]) | Processor(add_one) | Consumer(spread)).run()
    assert account(report) == {"add_one": (1, 1, 0, 0, 0, 0), "spread": (1, 1, 0, 0, 0, 0)}


async def test_steps_join_in_any_grouping() -> None:
    """Steps can be joined in any grouping."""
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
    """A pipeline can run several times, even concurrently, each run with its own counts."""
    stored: list[int] = []
    pipeline = Producer(range(5)) | Processor(add_one, limiter=2) | Consumer(into(stored))
    await pipeline.run()
    async with trio.open_nursery() as nursery:
        runs = [await nursery.start(pipeline.run) for _ in range(2)]
    assert sorted(stored) == sorted([*range(1, 6)] * 3)
    for run in runs:
        assert account(run)["add_one"] == (5, 5, 0, 0, 0, 0)


# ---- what may be a step ----


class Client:
    """A connection that is opened for a run, and is itself the function."""

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
    """An async context manager is entered once for each run, and left after the last item."""
    client = Client()
    pipeline = Producer(range(2)) | Processor(client, limiter=2) | Consumer(add_one)
    for _ in range(2):
        client.log.clear()
        account(await pipeline.run())
        assert client.log == ["open", "call", "call", "close"]


async def test_a_context_manager_may_give_the_function() -> None:
    """An async context manager can give the function to call."""
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
    """An async context manager is also left after an abort, and may await then."""

    class Breaks(Client):
        async def __call__(self, item: int) -> int:
            await trio.lowlevel.checkpoint()
            raise ValueError

    client = Breaks()
    with pytest.raises(Aborted):
        await (Producer([1]) | Consumer(client)).run()
    assert client.log == ["open", "close"]


async def test_a_context_manager_that_gives_no_function_says_so() -> None:
    """A context manager that gives nothing to call is refused when the run begins."""

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
    """An object with an async ``__call__`` is a step, named after its class."""
    gauge = Gauge()
    report = await (Producer(range(4)) | Consumer(gauge, limiter=2)).run()
    assert account(report) == {"Gauge": (4, 4, 0, 0, 0, 0)}
    assert (gauge.calls, gauge.most) == (4, 2)


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"window": 0}, ValueError, "window must be at least 1, not 0"),
        ({"window": 2.5}, TypeError, "window must be an int, not 2.5"),
        ({"timeout": 0}, ValueError, "timeout must be more than 0 seconds, not 0"),
        ({"limiter": -1}, ValueError, "limiter must be at least 1, not -1"),
        ({"limiter": "2"}, TypeError, "limiter must be a Limiter, a trio.CapacityLimiter or a"),
        ({"ordered": True, "key": len}, ValueError, "ordered or has a key, not both"),
    ],
)
def test_wrong_options_say_which_rule_they_break(
    options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """A bad option is refused when the step is made, with its value and the rule."""
    for kind in (Processor, Consumer):
        with pytest.raises(error, match=rule):
            kind(add_one, **options)


def test_wrong_steps_and_batches_are_refused() -> None:
    """A step must be callable, and batches exclude an order or too narrow a window."""
    step: Any = 5
    with pytest.raises(TypeError, match="an async function or an async context manager, not 5"):
        Processor(step)
    consumer: Any = Consumer
    for options in ({"ordered": True}, {"key": len}):
        with pytest.raises(ValueError, match="batches have no order"):
            consumer(add_one, batch=Batch(2), **options)
    with pytest.raises(ValueError, match="a window of 2 items never fills a batch of 3"):
        consumer(add_one, batch=Batch(3), window=2)
