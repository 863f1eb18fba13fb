"""`Limiter`: signals and pauses move the limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import (
    MockClock,
    wait_all_tasks_blocked,
)

from testkit.limiters import free, reasons
from trio_turnstile import (
    Limiter,
    Reason,
    Signal,
    Throttle,
    open_turnstile,
)


def orders() -> list[tuple[str, Callable[[Limiter], None]]]:
    return [
        ("up", Limiter.up),
        ("down", Limiter.down),
        ("pause", Limiter.pause),
        ("resume", Limiter.resume),
    ]


@pytest.mark.parametrize(("name", "order"), orders())
def test_without_a_turnstile_nothing_acts_on_signals(
    name: str, order: Callable[[Limiter], None]
) -> None:
    """Without a turnstile, signals raise an error that names three ways out."""
    with pytest.raises(RuntimeError) as caught:
        order(free())
    assert str(caught.value) == (
        "limiter 'api' is in no turnstile, so nothing acts on signals: make it with "
        "turnstile.limiter(...), pass it to turnstile.add(...), or assign total_tokens"
    )


@pytest.mark.parametrize(("name", "order"), orders())
async def test_a_closed_limiter_refuses_signals_and_pauses(
    name: str, order: Callable[[Limiter], None]
) -> None:
    """Signals and pauses are refused, in a turnstile and outside of one."""
    async with open_turnstile() as turnstile:
        for api in (free(), turnstile.limiter("db", 5)):
            api.close()
            with pytest.raises(trio.ClosedResourceError, match=f"'{api.name}' is closed"):
                order(api)


async def test_signals_move_the_limit_under_the_rules(autojump_clock: MockClock) -> None:
    """The limit goes down by two, a second signal is refused, and after the hold it goes up."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(hold=30))
        api.down()
        assert api.total_tokens == 10  # nothing is moved by the caller itself
        await trio.sleep(1)
        assert api.total_tokens == 8
        api.down()
        await trio.sleep(29)
        api.up()
        await trio.sleep(0.1)
        assert api.total_tokens == 9
        assert [(d.time, d.signal, d.before, d.after, d.reason) for d in api.decisions] == [
            (0.0, Signal.DOWN, 10, 8, Reason.SIGNAL),
            (1.0, Signal.DOWN, 8, 8, Reason.HOLDING),
            (30.0, Signal.UP, 8, 9, Reason.SIGNAL),
        ]


async def test_shrinking_lets_holders_finish_and_growth_wakes_waiters() -> None:
    """No holder is cancelled, and no waiter gets a token until there is room."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 4, throttle=Throttle(down=3, up=2, hold=0))
        for borrower in range(4):
            api.acquire_on_behalf_of_nowait(borrower)
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        api.down()
        await wait_all_tasks_blocked()
        assert (api.borrowed_tokens, api.available_tokens) == (4, -3)
        for borrower in range(3):
            api.release_on_behalf_of(borrower)
            await wait_all_tasks_blocked()
            assert api.borrowed_tokens == 3 - borrower
        api.up()
        await wait_all_tasks_blocked()
        assert set(api.statistics().borrowers) == {3, "waiter"}


async def test_a_pause_ends_by_itself_or_by_command(autojump_clock: MockClock) -> None:
    """The limit is 0 during the pause, and afterwards it is what it was before."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        api.pause(10)
        await trio.sleep(9.9)
        assert api.total_tokens == 0
        with pytest.raises(trio.WouldBlock):
            api.acquire_nowait()
        await trio.sleep(0.2)
        assert api.total_tokens == 5
        api.pause()
        await trio.sleep(3600)
        assert api.total_tokens == 0
        api.resume()
        api.resume()
        await trio.sleep(1)
        assert api.total_tokens == 5
        assert reasons(api) == [Reason.PAUSED, Reason.RESUMED] * 2


async def test_a_pause_of_no_measurable_length_is_over_at_once(
    autojump_clock: MockClock,
) -> None:
    """The pause is recorded, and the throttle task neither hangs nor spins."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        await trio.sleep(3600)
        api.pause(1e-15)  # a float cannot hold the sum of both
        await trio.sleep(1)
        assert api.total_tokens == 5
        assert reasons(api) == [Reason.PAUSED, Reason.RESUMED]


async def test_the_last_two_hundred_decisions_are_kept() -> None:
    """Decisions are kept oldest first; older ones are dropped, so memory stays bounded."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 300, throttle=Throttle(down=1, hold=0))
        for _ in range(250):
            api.down()
        await wait_all_tasks_blocked()
        assert [decision.after for decision in api.decisions] == list(range(249, 49, -1))
