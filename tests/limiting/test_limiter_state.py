"""`Limiter`: its name, its bounds, its repr and its statistics."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import Proposal, free
from trio_turnstile import (
    Bound,
    Consumer,
    Limiter,
    LimiterStatistics,
    Pause,
    Producer,
    Reason,
    Release,
    Resume,
    Saturated,
    Signal,
    Throttle,
    Totals,
    open_turnstile,
)


def test_it_has_a_name_and_bounds() -> None:
    """The limit starts at the ceiling, and the minimum is the one of the throttle."""
    api = Limiter("api", 10, throttle=Throttle(min=3))
    assert (api.name, api.total_tokens, api.ceiling, api.minimum) == ("api", 10, 10, 3)
    assert (api.borrowed_tokens, api.available_tokens, api.decisions) == (0, 10, ())


def test_it_starts_at_what_its_policy_proposes() -> None:
    """The policy bounds the limit from the start, before its first tick."""
    assert Limiter("api", 10, policy=Proposal(4.5)).total_tokens == 4


async def test_its_repr_says_how_busy_it_is() -> None:
    """The repr shows name, tokens and queue, and whether the limiter is closed."""
    api = free()
    async with trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        assert repr(api) == "<trio_turnstile.Limiter 'api', 1/1 with 1 waiting>"
        nursery.cancel_scope.cancel()
    api.close()
    assert repr(api) == "<trio_turnstile.Limiter 'api' closed, 1/1 with 0 waiting>"


async def test_statistics_show_everything() -> None:
    """The statistics are one frozen value."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(min=2, hold=0), policy=Proposal(5.0))
        api.acquire_on_behalf_of_nowait("holder")
        api.down()
        await wait_all_tasks_blocked()
        (decision,) = api.decisions
        now = decision.time
        assert api.statistics() == LimiterStatistics(
            name="api",
            borrowed_tokens=1,
            total_tokens=5,
            borrowers=["holder"],
            tasks_waiting=0,
            cap=8,
            ceiling=10,
            minimum=2,
            paused=False,
            closed=False,
            bounds={
                "cap": Bound(8, {"reason": "signal", "signal": "down", "time": now}),
                "policy": Bound(5, {"reason": "initial"}),
            },
        )
        api.pause()
        await wait_all_tasks_blocked()
        assert api.statistics().paused
        assert api.statistics().bounds["pause"].tokens == 0
        api.close()
        assert api.statistics().closed


async def test_what_holds_the_limit_can_be_asked_at_no_cost(autojump_clock: MockClock) -> None:
    """The statistics say when a pause ends, how long a hold lasts, and what the policy proposes."""
    start, policy = trio.current_time(), Proposal(5.5)
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(hold=30), policy=policy)
        assert (api.paused_until, api.hold_left, api.proposal) == (None, 0, 5)
        await turnstile.ask("api", Signal.DOWN)
        await turnstile.ask("api", Pause(60))
        policy.limit = 0
        await trio.sleep(10)
        assert (api.paused_until, api.hold_left, api.proposal) == (start + 60, 20, 1)
        await turnstile.ask("api", Pause())
        await trio.sleep(30)
        assert (api.paused_until, api.hold_left) == (math.inf, 0)
        await turnstile.ask("api", Resume())
        assert api.paused_until is None
        assert turnstile.limiter("db", 10).proposal is None


async def test_a_policy_that_is_not_enforced_proposes_all_the_same() -> None:
    """The proposal of a policy that is not enforced is no bound of the limit."""
    api = Limiter("api", 10, policy=Proposal(5.0), enforce=False)
    assert (api.total_tokens, api.proposal) == (10, 5)


async def test_totals_count_what_was_admitted_and_turned_away() -> None:
    """Calls count whether they waited or not, in steps too; those that gave up do not count."""
    api = Limiter("api", 1, max_waiting=1)
    assert api.totals() == Totals(0, 0, {})
    async with trio.open_nursery() as nursery:
        api.acquire_nowait()
        with pytest.raises(trio.WouldBlock):
            api.acquire_on_behalf_of_nowait("another")
        nursery.start_soon(api.acquire_on_behalf_of, "waits")
        await wait_all_tasks_blocked()
        with pytest.raises(Saturated):
            await api.acquire_on_behalf_of("too many")
        assert api.totals() == Totals(1, 1, {})
        api.release()
    assert api.totals() == Totals(2, 1, {})
    api.release_on_behalf_of("waits")

    async def work(_: int) -> None:
        await trio.lowlevel.checkpoint()

    await (Producer(range(7)) | Consumer(work, limiter=api)).run()
    with trio.CancelScope() as scope:
        async with api:
            scope.cancel()
            await api.acquire_on_behalf_of("gives up")
    assert api.totals().admitted == 10


async def test_totals_count_decisions_by_reason() -> None:
    """Every decision counts, even if it is kept as one with others, or no longer kept."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 500, throttle=Throttle(down=1, hold=0))
        for _ in range(300):
            await turnstile.ask("api", Signal.DOWN)
        for _ in range(3):
            await turnstile.ask("api", Release())
        assert len(api.decisions) == 201
        assert api.totals().decisions == {Reason.SIGNAL: 300, Reason.UNCHANGED: 3}
