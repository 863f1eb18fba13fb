"""The counts of a pipeline, live and in its report."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import account, add_one, into
from trio_turnstile import (
    DISCARD,
    Batch,
    Consumer,
    Many,
    PipelineRun,
    Processor,
    Producer,
    Retry,
    Skip,
)
from trio_turnstile.testing import assert_conserved


async def test_the_report_finds_steps_by_name() -> None:
    """The report finds a step by name; for an unknown name it lists those that exist."""
    report = await (Producer([1]) | Processor(add_one, name="a") | Consumer(into([]))).run()
    assert report["a"] is report.steps[0]
    with pytest.raises(KeyError, match="no step is named 'b'; there are: a, store"):
        report["b"]


async def test_books_balance_while_it_runs(autojump_clock: MockClock) -> None:
    """At every instant each item received has a fate or is in flight."""

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
        run: PipelineRun = await nursery.start(pipeline.run)
        while any(step.in_flight for step in run.steps) or not looks:
            assert_conserved(run)
            looks += 1
            await trio.sleep(0.05)
    assert looks > 100
    assert sum(batches) == run.steps[-1].completed == 2 * run.steps[0].completed
    assert account(run)["sometimes"][3] == 40


async def test_errors_kept_are_bounded() -> None:
    """The first ``max_errors`` errors are kept, and the others are counted."""

    async def fail(number: int) -> None:
        raise OSError(number)

    report = await (Producer(range(9)) | Consumer(fail, on_error=[Skip()])).run(max_errors=2)
    assert (len(report.errors), report.errors_omitted) == (2, 7)
    assert account(report)["fail"] == (9, 0, 0, 9, 0, 0)
