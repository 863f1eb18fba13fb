"""Pipelines without a consumer: iterating over the results, and leaving early."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import CountedSource, account, books, takes, unchanged
from trio_turnstile import Aborted, Processor, Producer


async def test_a_producer_without_steps_can_be_opened() -> None:
    """A producer without steps, merged ones included, can be iterated over."""
    merged = Producer.merge(Producer([1, 2]), Producer([3]))
    async with merged.open() as results:
        assert sorted([number async for number in results]) == [1, 2, 3]


async def test_leaving_early_cancels_what_is_in_hand(autojump_clock: MockClock) -> None:
    """Leaving the block early raises nothing, and the report counts every item."""
    source = CountedSource()
    async with (Producer(source) | Processor(unchanged, limiter=5)).open() as results:
        async for _ in results:
            await trio.sleep(1)  # meanwhile other items are finished and wait to come out
            break
    step = books(results.report())
    assert (step.received, step.completed, step.failed) == (source.taken, 1, 0)
    assert step.cancelled == len(step.cut_off) == step.received - 1
    with pytest.raises(trio.ClosedResourceError):
        await anext(results)


async def test_an_error_in_the_block_comes_out_alone(autojump_clock: MockClock) -> None:
    """An exception raised in the block is not wrapped in a group."""
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        async with (Producer(CountedSource()) | Processor(unchanged, limiter=5)).open() as results:
            await anext(results)
            await trio.sleep(1)
            raise error
    assert caught.value is error
    assert books(results.report()).received == 70


async def test_cancelling_the_block_cancels_the_pipeline(autojump_clock: MockClock) -> None:
    """A timeout around the block cancels the pipeline."""
    with trio.move_on_after(3):
        async with (Producer(CountedSource()) | Processor(takes(2), limiter=2)).open() as results:
            async for _ in results:
                pass
    step = books(results.report())
    assert (step.completed, step.failed) == (2, 0)
    assert step.cancelled == step.received - 2 >= 2


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
    assert account(results.report())["fail_on_3"] == (9, 3, 0, 1, 0, 5)
