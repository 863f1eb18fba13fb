"""Work under a limiter that asks for the same limiter."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_turnstile import (
    Aborted,
    Consumer,
    Limiter,
    Producer,
    Scalable,
    Skip,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("ours", [True, False])
async def test_a_step_that_takes_its_own_limiter_is_told(tokens: int, ours: bool) -> None:
    """A step that asks for its own limiter gets the error of any holder, and no deadlock."""
    api: Any = Limiter("api", tokens) if ours else trio.CapacityLimiter(tokens)

    async def fetch(item: int) -> None:
        async with api:
            await trio.lowlevel.checkpoint()

    with trio.fail_after(5), pytest.raises(Aborted) as caught:
        await (Producer(range(9)) | Consumer(fetch, limiter=api)).run()
    cause = caught.value.exceptions[0].__cause__
    assert isinstance(cause, RuntimeError)
    assert ("limiter 'api'" if ours else "already holding") in str(cause)
    assert api.borrowed_tokens == 0


async def test_an_operation_that_takes_its_own_limiter_is_told() -> None:
    """An operation that asks for its own limiter gets an error, and there is no deadlock."""
    api = Limiter("api", 1)

    class Asks(Scalable):
        async def work(self, channels: Any) -> None:
            async with api:
                await trio.lowlevel.checkpoint()

    report = await run_phases([Asks()], limiter=api)
    assert report.failed == 1
    assert "limiter 'api'" in str(report.errors[0])


@pytest.mark.parametrize("tokens", [1, 2, 5])
@pytest.mark.parametrize("depth", [1, 2])
async def test_a_run_inside_a_step_may_share_its_limiter(
    autojump_clock: MockClock, tokens: int, depth: int
) -> None:
    """The step lends its token to the run that it waits for; the limit holds all the while."""
    api = Limiter("api", tokens)
    most = 0

    async def inner(item: int) -> None:
        nonlocal most
        most = max(most, api.borrowed_tokens)
        await trio.sleep(1)

    async def step(item: tuple[int, int]) -> None:
        level, number = item
        if level == depth:
            return await inner(number)
        items = [(level + 1, number) for number in range(3)]
        report = await (Producer(items) | Consumer(step, limiter=api)).run()
        assert_conserved(report)
        assert api.borrowed_tokens <= tokens

    with trio.fail_after(1000):
        report = await (Producer([(0, n) for n in range(3)]) | Consumer(step, limiter=api)).run()
    assert report.steps[0].completed == 3
    assert most <= tokens
    assert api.borrowed_tokens == 0
    assert trio.current_time() == pytest.approx(3 ** (depth + 1) / tokens, abs=3)


async def test_two_runs_inside_a_step_share_its_token(autojump_clock: MockClock) -> None:
    """Two runs inside a step share its token, which is taken back when the last one ends."""
    api = Limiter("api", 1)

    async def inner(item: float) -> None:
        await trio.sleep(item)

    async def step(item: int) -> None:
        async with trio.open_nursery() as nursery:
            for seconds in (1.0, 2.0):
                pipeline = Producer([seconds] * 2) | Consumer(inner, limiter=api)
                nursery.start_soon(pipeline.run)
        assert api.borrowed_tokens == 1

    with trio.fail_after(100):
        report = await (Producer(range(2)) | Consumer(step, limiter=api)).run()
    assert report.steps[0].completed == 2
    assert trio.current_time() == 12


async def test_a_run_inside_an_operation_is_cancelled_with_it(autojump_clock: MockClock) -> None:
    """When the operation is cancelled, it takes no token back, and none is lost."""
    api = Limiter("api", 1)

    class Nested(Scalable):
        async def work(self, channels: Any) -> None:
            await (Producer([9.0]) | Consumer(trio.sleep, limiter=api)).run()

    with trio.move_on_after(1):
        await run_phases([Nested()], limiter=api)
    assert api.borrowed_tokens == 0
    async with api:
        pass


async def test_an_error_of_a_run_inside_a_step_is_the_step_s(autojump_clock: MockClock) -> None:
    """The step gets the error of the run and takes its token back before the policies decide."""
    api = Limiter("api", 1)

    async def broken(item: int) -> None:
        raise OSError

    async def step(item: int) -> None:
        await (Producer([1]) | Consumer(broken, limiter=api)).run()

    report = await (Producer(range(3)) | Consumer(step, limiter=api, on_error=Skip())).run()
    assert report.steps[0].failed == 3
    assert api.borrowed_tokens == 0


async def test_a_run_under_another_limiter_borrows_nothing(autojump_clock: MockClock) -> None:
    """A run under another limiter does not borrow, even from steps further out."""
    outer, other = Limiter("outer", 1), Limiter("other", 1)

    async def innermost(item: int) -> None:
        assert (outer.borrowed_tokens, other.borrowed_tokens) == (1, 1)

    async def inner(item: int) -> None:
        await (Producer([1]) | Consumer(innermost, limiter=1)).run()

    async def step(item: int) -> None:
        await (Producer([1]) | Consumer(inner, limiter=other)).run()

    report = await (Producer([1]) | Consumer(step, limiter=outer)).run()
    assert report.steps[0].completed == 1
