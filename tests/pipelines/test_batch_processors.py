"""Processors that take batches, and batches that an item ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import account, books, into, slowly, takes
from trio_turnstile import (
    DISCARD,
    Batch,
    BatchError,
    Consumer,
    Discard,
    Limiter,
    Many,
    Pipeline,
    Processor,
    Producer,
    Retry,
    Skip,
)
from trio_turnstile.testing import ProbeSink, run_one


async def total(numbers: list[int]) -> int:
    await trio.lowlevel.checkpoint()
    return sum(numbers)


async def backwards(numbers: list[int]) -> Many[int]:
    await trio.lowlevel.checkpoint()
    return Many(reversed(numbers))


def batches_of(pipeline: Producer[int], step: Processor[int, Any], *, apart: bool) -> list[Any]:
    """Return what comes out, with the next step fused with this one or separate."""
    stored: list[Any] = []
    limiter = 1 if apart else None
    trio.run((pipeline | step | Consumer(into(stored), limiter=limiter)).run)
    return stored


# ---- what is passed on ----


@pytest.mark.parametrize("apart", [False, True])
def test_a_batch_becomes_one_thing(apart: bool) -> None:
    """The value that the function returns goes to the next step, fused or not."""
    step = Processor(total, batch=Batch(2), limiter=1)
    assert sorted(batches_of(Producer(range(5)), step, apart=apart)) == [1, 4, 5]


@pytest.mark.parametrize("apart", [False, True])
def test_a_batch_becomes_many(apart: bool) -> None:
    """All items of a `Many` are passed on, in order."""
    step = Processor(backwards, batch=Batch(3), limiter=1)
    out = batches_of(Producer(range(5)), step, apart=apart)
    # The batches themselves may come in any order.
    assert [number for number in out if number < 3] == [2, 1, 0]
    assert [number for number in out if number >= 3] == [4, 3]


async def test_results_of_batches_can_be_iterated_over() -> None:
    """Without a consumer, the values that batches become are the results."""
    producer = Producer(range(5)) | Processor(total, batch=Batch(2), limiter=1)
    async with producer.open() as results:
        assert [number async for number in results] == [1, 5, 4]
    assert account(results.report())["total"] == (5, 5, 0, 0, 0, 0)
    assert books(results.report()).passed_on == 3
    assert books(results.report()).batches == {"size": 2, "flush": 1}


async def test_a_batch_that_is_discarded_counts_by_its_members() -> None:
    """All members count as discarded, and nothing is passed on."""

    async def odd_total(numbers: list[int]) -> int | Discard:
        number = await total(numbers)
        return number if number % 2 else DISCARD

    stored: list[int] = []
    report = await (
        Producer(range(6))
        | Processor(odd_total, batch=Batch(3), limiter=1)
        | Consumer(into(stored))
    ).run()
    assert stored == [3]
    assert account(report) == {
        "odd_total": (6, 3, 3, 0, 0, 0),
        "store": (1, 1, 0, 0, 0, 0),
    }


async def test_a_processor_of_batches_may_be_opened() -> None:
    """The function may come from a context manager, as for other steps."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Callable[[list[int]], Awaitable[int]]]:
        yield total

    assert await run_one(Processor(opened(), batch=Batch(2)), 5) == [5]


async def test_batches_of_batches() -> None:
    """One step of batches can follow another."""
    stored: list[Any] = []
    await (
        Producer(range(8))
        | Processor(total, batch=Batch(2), limiter=1)
        | Processor(backwards, batch=Batch(2), limiter=1)
        | Consumer(into(stored))
    ).run()
    assert stored == [5, 1, 13, 9]


# ---- tokens and room ----


async def test_a_batch_that_waits_for_room_holds_no_token(autojump_clock: MockClock) -> None:
    """The members stay in hand until the next step has taken what they became."""
    api, sink = Limiter("api", 1), ProbeSink[int]()
    pipeline = (
        Producer(range(6))
        | Processor(total, batch=Batch(2), limiter=api)
        | Consumer(sink, window=1)
    )
    async with trio.open_nursery() as nursery:
        run = await nursery.start(pipeline.run)
        await trio.sleep(1)
        assert api.borrowed_tokens == 0
        assert (run.steps[0].completed, run.steps[0].in_flight) == (2, 4)
        assert [await sink.receive() for _ in range(3)] == [1, 5, 9]
    assert account(run)["total"] == (6, 6, 0, 0, 0, 0)


async def test_cancelled_while_it_waits_for_room(autojump_clock: MockClock) -> None:
    """Each member whose result was not passed on is cancelled."""
    pipeline = (
        Producer(range(4))
        | Processor(total, batch=Batch(2), limiter=1)
        | Consumer(takes(60), window=1, name="slow")
    )
    async with trio.open_nursery() as nursery:
        run = await nursery.start(pipeline.run)
        await trio.sleep(1)
        run.cancel()
    assert account(run) == {"total": (4, 2, 0, 0, 0, 2), "slow": (1, 0, 0, 0, 0, 1)}
    assert set(run.steps[0].cut_off) == {2, 3}


async def test_cancelled_in_a_fused_step(autojump_clock: MockClock) -> None:
    """The members are completed, and the things they became are cancelled where they were."""
    pipeline = (
        Producer(range(2))
        | Processor(backwards, batch=Batch(2), limiter=1)
        | Consumer(takes(60), name="slow")
    )
    async with trio.open_nursery() as nursery:
        run = await nursery.start(pipeline.run)
        await trio.sleep(1)
        run.cancel()
    assert account(run) == {"backwards": (2, 2, 0, 0, 0, 0), "slow": (2, 0, 0, 0, 0, 2)}
    assert run.steps[1].cut_off == (1, 0)


# ---- errors ----


class Refuses:
    """A step that passes its members on as they are, some of them only after several failures."""

    def __init__(self, failures: dict[int, int]) -> None:
        self.failures = failures
        self.batches: list[list[int]] = []

    async def __call__(self, numbers: list[int]) -> Many[int]:
        await trio.sleep(1)
        self.batches.append(numbers)
        errors: dict[int, Exception] = {}
        for index, number in enumerate(numbers):
            if self.failures.get(number, 0):
                self.failures[number] -= 1
                errors[index] = OSError(number)
        done = [number for index, number in enumerate(numbers) if index not in errors]
        if errors:
            raise BatchError(errors, passed_on=done)
        return Many(done)


def refusing(step: Refuses, policies: list[Any], stored: list[Any]) -> Pipeline:
    async def note(number: int) -> None:
        stored.append((number, trio.current_time()))

    processor = Processor(step, batch=Batch(4), limiter=1, on_error=policies)
    return Producer(range(4)) | processor | Consumer(note)


async def test_what_the_others_became_is_passed_on(autojump_clock: MockClock) -> None:
    """A failed member takes nothing away from the rest of its batch."""
    stored: list[Any] = []
    report = await refusing(Refuses({2: 1}), [Skip()], stored).run()
    assert stored == [(0, 1), (1, 1), (3, 1)]
    assert account(report)["Refuses"] == (4, 3, 0, 1, 0, 0)


async def test_a_retry_holds_up_nobody(autojump_clock: MockClock) -> None:
    """The others go on before the back-off, and the member that is retried goes on after it."""
    stored: list[Any] = []
    step = Refuses({0: 1, 2: 2})
    again = Retry(2, backoff=lambda failures: 10)
    report = await refusing(step, [again], stored).run()
    assert step.batches == [[0, 1, 2, 3], [0, 2], [2]]
    assert stored == [(1, 1), (3, 1), (0, 12), (2, 23)]
    assert (books(report, 0).completed, books(report, 0).retried) == (4, 3)


async def test_a_batch_error_may_pass_nothing_on() -> None:
    """A `BatchError` may pass nothing on, and the other members count as done anyway."""

    async def refuse(numbers: list[int]) -> int:
        await trio.lowlevel.checkpoint()
        raise BatchError({0: OSError()})

    stored: list[int] = []
    processor = Processor(refuse, batch=Batch(3), on_error=[Skip()])
    report = await (Producer(range(3)) | processor | Consumer(into(stored))).run()
    assert stored == []
    assert account(report)["refuse"] == (3, 2, 0, 1, 0, 0)


async def test_a_batch_that_failed_whole_passes_nothing_on() -> None:
    """Neither an error of the batch nor an error of each member leaves anything to pass on."""

    async def refuse(numbers: list[int]) -> int:
        await trio.lowlevel.checkpoint()
        if numbers == [1]:
            raise BatchError({0: OSError()}, passed_on=["never"])
        raise OSError

    assert await run_one(Processor(refuse, batch=Batch(1), on_error=[Skip()]), 1) == []
    assert await run_one(Processor(refuse, batch=Batch(1), on_error=[Skip()]), 2) == []


# ---- batches that an item ends ----


async def lists(batch: Batch, items: Any) -> tuple[list[Any], Any]:
    """Return the batches with the reasons for their ends."""
    stored: list[Any] = []
    report = await (Producer(items) | Consumer(into(stored), batch=batch, limiter=1)).run()
    return stored, books(report).batches


async def test_an_item_ends_its_batch_as_the_last_member() -> None:
    """Without other bounds, a batch may get as long as it likes."""
    stored, batches = await lists(
        Batch(until=lambda word: word.endswith(".")), ["a", "b.", "c.", "d", "e"]
    )
    assert stored == [["a", "b."], ["c."], ["d", "e"]]
    assert batches == {"until": 2, "flush": 1}


async def test_an_item_ends_a_batch_before_it_is_full_or_old(autojump_clock: MockClock) -> None:
    """The first reason ends the batch; a batch that is just full is ended by its size."""
    batch = Batch(3, within=2.5, until=lambda number: number % 4 == 0)
    stored, batches = await lists(batch, slowly(1, 2, 3, 4, 5, 8, 9, 10, every=1))
    assert stored == [[1, 2, 3], [4], [5, 8], [9, 10]]
    assert batches == {"size": 1, "until": 2, "flush": 1}


async def test_an_item_that_is_too_heavy_may_end_two_batches() -> None:
    """The item has no room in the open batch, and ends the one that it begins."""
    batch = Batch(weight=float, max_weight=5, until=lambda number: number == 4)
    stored, batches = await lists(batch, [2, 4, 1])
    assert stored == [[2], [4], [1]]
    assert batches == {"weight": 1, "until": 1, "flush": 1}


async def test_an_item_ends_the_batch_of_its_key() -> None:
    """An item ends only the batch of its key, and batches of other keys go on."""
    batch = Batch(key=lambda number: number % 2, until=lambda number: number > 10)
    stored, _ = await lists(batch, [1, 2, 11, 4])
    assert stored == [[1, 11], [2, 4]]


async def test_an_until_that_fails_is_an_error_of_its_item() -> None:
    """The item fails, and its batch goes on without it."""
    stored: list[Any] = []
    consumer = Consumer(
        into(stored), batch=Batch(until=lambda number: 1 / number < 0), on_error=[Skip()]
    )
    report = await (Producer([1, 0, 2]) | consumer).run()
    assert stored == [[1, 2]]
    assert [error.item for error in report.errors] == [0]
