"""`Limiter`: its name, its bounds, its repr and its statistics."""

from __future__ import annotations

import trio
from trio.testing import (
    wait_all_tasks_blocked,
)

from testkit.limiters import Proposal, free
from trio_turnstile import (
    Bound,
    Limiter,
    LimiterStatistics,
    Throttle,
    open_turnstile,
)


def test_it_has_a_name_and_bounds() -> None:
    """The limit starts at the ceiling; the minimum is that of the throttle."""
    api = Limiter("api", 10, throttle=Throttle(min=3))
    assert (api.name, api.total_tokens, api.ceiling, api.minimum) == ("api", 10, 10, 3)
    assert (api.borrowed_tokens, api.available_tokens, api.decisions) == (0, 10, ())


def test_it_starts_at_what_its_policy_proposes() -> None:
    """The policy bounds the limit from the start, before its first tick."""
    assert Limiter("api", 10, policy=Proposal(4.5)).total_tokens == 4


async def test_its_repr_says_how_busy_it_is() -> None:
    """It shows name, tokens and queue, and whether the limiter is closed."""
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
    """They are one frozen value."""
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
