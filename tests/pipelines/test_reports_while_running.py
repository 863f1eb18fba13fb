"""What the report of a step says about its limits while the run goes on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Batch,
    Consumer,
    Limiter,
    Processor,
    Producer,
    StepReport,
    open_turnstile,
)


def limits(step: StepReport) -> tuple[str | None, float | None, int, int]:
    return step.limiter, step.window, step.queued, step.waiting


async def through(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return number


async def hang(items: Any) -> None:
    await trio.sleep(3600)


@pytest.mark.parametrize(
    ("limiter", "name", "window"),
    [
        (2, "hang", 66),
        (Limiter("db", 2), "db", 66),
        (trio.CapacityLimiter(2), None, 66),
    ],
    ids=["number", "limiter", "trio"],
)
async def test_a_step_names_its_limiter(limiter: Any, name: str | None, window: float) -> None:
    """A limiter of trio has no name; one made from a bare number has the name of the step."""
    async with (Producer(range(50)) | Consumer(hang, limiter=limiter)).start() as run:
        await wait_all_tasks_blocked()
        assert limits(run.steps[0]) == (name, window, 0, 0)
        assert run.steps[0].in_flight == 2
        run.cancel()
    assert limits(run.report().steps[0]) == (name, window, 0, 0)


async def test_what_no_worker_has_is_queued() -> None:
    """A queued item is in the window of the step, and counts as in flight."""
    pipeline = (
        Producer(range(50)) | Processor(through, limiter=1) | Consumer(hang, limiter=2, window=9)
    )
    async with pipeline.start() as run:
        await wait_all_tasks_blocked()
        assert limits(run.steps[1]) == ("hang", 9, 7, 0)
        assert run.steps[1].in_flight == 9
        run.cancel()


async def test_what_is_being_gathered_is_queued_too() -> None:
    """Gathered items count as queued whether their batch is full or not."""
    pipeline = Producer(range(50)) | Consumer(hang, limiter=1, batch=Batch(4), window=10)
    async with pipeline.start() as run:
        await wait_all_tasks_blocked()
        assert limits(run.steps[0]) == ("hang", 10, 6, 0)
        assert run.steps[0].in_flight == 10
        run.cancel()


async def test_what_has_a_worker_and_no_token_waits() -> None:
    """Another user has the tokens, and takes them before the worker does."""
    limiter = Limiter("db", 2)
    send, receive = trio.open_memory_channel[int](2)
    async with (Producer(receive) | Consumer(hang, limiter=limiter)).start() as run:
        await wait_all_tasks_blocked()
        for borrower in "ab":
            limiter.acquire_on_behalf_of_nowait(borrower)
        send.send_nowait(1)
        await wait_all_tasks_blocked()
        assert limits(run.steps[0]) == ("db", 66, 0, 1)
        run.cancel()
    for borrower in "ab":
        limiter.release_on_behalf_of(borrower)


async def test_steps_that_run_with_the_one_before_have_no_limits_of_their_own() -> None:
    """Fused steps have neither limiter nor window; a first step without a limiter has a window."""
    pipeline = Producer(range(50)) | Processor(through) | Consumer(hang)
    async with pipeline.start() as run:
        await wait_all_tasks_blocked()
        assert [limits(step) for step in run.steps] == [(None, 64, 0, 0), (None, None, 0, 0)]
        run.cancel()


async def test_the_window_follows_the_limit(autojump_clock: MockClock) -> None:
    """The report has the current window, and the name that the turnstile gave."""
    async with open_turnstile() as turnstile:
        turnstile.limiter("hang", 1)
        db = turnstile.limiter("db", 2)
        first = Producer(range(3)) | Processor(through, limiter=db)
        async with (first | Consumer(hang, limiter=4)).start() as run:
            await trio.sleep(1)
            assert run.steps[1].limiter == "hang-2"
            assert turnstile.limiters["hang-2"].borrowed_tokens == 3
            db.total_tokens = 5
            assert run.steps[0].window == 69
            run.cancel()
