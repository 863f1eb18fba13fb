"""Pipelines that are aborted, and the errors that are raised."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.pipelines import account, takes
from trio_turnstile import DISCARD, Aborted, Consumer, Limiter, Processor, Producer, Retry, Skip
from trio_turnstile.testing import assert_conserved


async def test_abort_raises_exactly_the_errors_of_the_failed_items(
    autojump_clock: MockClock,
) -> None:
    """`Aborted` holds exactly the errors that caused it, flat, and the report."""

    async def work(number: int) -> Any:
        await trio.sleep(1)
        if number == 2:
            raise ValueError("bad")
        return DISCARD if number == 1 else number

    pipeline = (
        Producer(range(100))
        | Processor(takes(0.5), limiter=9, name="before")
        | Processor(work, limiter=3, on_error=[Skip(on=OSError)])
        | Processor(takes(5), ordered=True, name="after")
        | Consumer(takes(5), limiter=1)
    )
    with pytest.raises(Aborted) as caught:
        await pipeline.run()
    (error,) = caught.value.exceptions
    assert (error.item, error.phase, error.attempt) == (2, "work", 1)
    assert isinstance(error.__cause__, ValueError)
    report = caught.value.report
    assert report.errors == (error,)
    assert_conserved(report)
    assert report["work"].failed == 1
    for step in report.steps:
        assert len(step.cut_off) == step.cancelled
        assert step.in_flight == 0


async def test_errors_beside_a_cancellation_hide_no_other(autojump_clock: MockClock) -> None:
    """An error raised by a step while it is cancelled does not hide the cause of the abort."""

    async def close_badly() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("cannot close")

    async def work(number: int) -> None:
        if number == 0:
            await trio.sleep(1)
            raise ValueError("bad")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close_badly)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(Aborted) as caught:
        await (Producer(range(2)) | Consumer(work)).run()
    assert [repr(error.__cause__) for error in caught.value.exceptions] == ["ValueError('bad')"]
    report = caught.value.report
    assert account(report)["work"] == (2, 0, 0, 1, 0, 1)
    assert len(report.errors) == 2


async def test_back_off_does_not_outlive_an_abort(autojump_clock: MockClock) -> None:
    """An abort also cancels items that are backing off."""

    async def work(number: int) -> None:
        await trio.sleep(number)
        raise OSError if number < 3 else ValueError

    with pytest.raises(Aborted) as caught:
        await (
            Producer(range(4))
            | Consumer(work, on_error=[Retry(9, on=OSError, backoff=lambda n: 99)])
        ).run()
    assert trio.current_time() == 3
    assert account(caught.value.report)["work"] == (4, 0, 0, 1, 0, 3)
    assert caught.value.report["work"].retried == 3


async def test_a_limiter_that_is_closed_ends_the_run(autojump_clock: MockClock) -> None:
    """Closing the limiter of a step aborts the run with an error that says so."""
    limiter = Limiter("api", 1)

    async def close(number: int) -> None:
        await trio.sleep(1)
        if number == 3:
            limiter.close()

    with pytest.raises(Aborted) as caught:
        await (Producer(range(9)) | Consumer(close, limiter=limiter)).run()
    assert {error.phase for error in caught.value.exceptions} == {"limiter"}
    assert account(caught.value.report)["close"][1:4] == (4, 0, 0)
