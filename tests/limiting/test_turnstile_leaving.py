"""`open_turnstile`: what happens on leaving, with and without an exception."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Decision,
    Event,
    Limiter,
    LimiterClosed,
    LimiterOpened,
    Turnstile,
    open_turnstile,
)


async def forever(_: Turnstile) -> None:
    await trio.sleep_forever()


class Stopped(BaseException):
    """An exception that is not an `Exception`."""


@pytest.mark.parametrize(
    "error",
    [
        KeyError("k"),
        Stopped(),
        KeyboardInterrupt(),
        StopIteration(),
        ExceptionGroup("of the body", [ValueError()]),
        BaseExceptionGroup("of the body", [Stopped()]),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_body_raises_comes_out_as_it_is(error: BaseException) -> None:
    """The same error object comes out of the block, in no group, with nothing chained to it."""
    with pytest.raises(type(error)) as caught:
        async with open_turnstile() as turnstile:
            turnstile.limiter("api", 5)
            raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_a_scope_round_the_turnstile_or_in_its_body_cancels_as_ever(
    autojump_clock: MockClock,
) -> None:
    """Cancel scopes around the turnstile and in its body work as without it."""
    with trio.move_on_after(1) as outside:
        async with open_turnstile() as turnstile:
            turnstile.watch(forever)
            await trio.sleep_forever()
    assert outside.cancelled_caught
    async with open_turnstile():
        with trio.move_on_after(1) as inside:
            await trio.sleep_forever()
    assert inside.cancelled_caught


async def test_on_leaving_limiters_are_closed_and_holders_finish() -> None:
    """Waiters get the error; a holder may give back its token much later."""

    async def wait(api: Limiter) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await api.acquire()

    async with trio.open_nursery() as nursery, open_turnstile() as turnstile:
        api = turnstile.limiter("api", 1)
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(wait, api)
        await wait_all_tasks_blocked()
    assert not turnstile.limiters
    assert api.statistics().borrowers == ["holder"]
    api.release_on_behalf_of("holder")
    with pytest.raises(trio.ClosedResourceError, match="limiter 'api' is closed"):
        api.up()


async def test_what_was_posted_before_leaving_is_done() -> None:
    """The last signal is decided on and observed before the limiter is closed."""
    events: list[Event] = []
    async with open_turnstile(observers=[events.append]) as turnstile:
        turnstile.limiter("api", 5).down()
    assert [type(event) for event in events] == [LimiterOpened, Decision, LimiterClosed]


async def test_turnstiles_may_be_nested_and_follow_one_another() -> None:
    """Turnstiles share nothing, not even names."""
    async with open_turnstile() as outer:
        first = outer.limiter("api", 5)
        for _ in range(2):
            async with open_turnstile() as inner:
                second = inner.limiter("api", 5)
                assert second.name == "api"
                inner.down()
                await wait_all_tasks_blocked()
                assert (first.total_tokens, second.total_tokens) == (5, 3)
            assert second.statistics().closed
        assert not first.statistics().closed
