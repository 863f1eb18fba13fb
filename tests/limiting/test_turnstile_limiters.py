"""`Turnstile`: its limiters and their names."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP
from trio_turnstile import (
    Limiter,
    Throttle,
    open_turnstile,
)


async def test_its_limiters_can_be_found_by_name() -> None:
    """Limiters are found in a live, read-only view that leaves out the closed ones."""
    async with open_turnstile() as turnstile:
        limiters = turnstile.limiters
        assert not limiters
        api = turnstile.limiter("api", 10)
        db = turnstile.limiter("db", 40)
        assert dict(limiters) == {"api": api, "db": db}
        db.close()
        assert list(limiters) == ["api"]
        with pytest.raises(TypeError):
            limiters["db"] = db  # type: ignore[index]


async def test_the_options_of_a_limiter_are_passed_on() -> None:
    """``turnstile.limiter`` takes what `Limiter` takes."""
    rules = Throttle(min=3)
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5, throttle=rules, max_waiting=0)
        assert (api.ceiling, api.minimum) == (5, 3)
        with pytest.raises(ValueError, match=r"throttle\.min must not be above the ceiling"):
            turnstile.limiter("bad", 2, throttle=rules)
        assert list(turnstile.limiters) == ["api"]


async def test_a_name_that_is_taken_gets_a_number() -> None:
    """A taken name gets the lowest free number; the name of a closed limiter is free again."""
    async with open_turnstile() as turnstile:
        names = [turnstile.limiter(name, 5).name for name in ("api", "api", "api-2", "api")]
        assert names == ["api", "api-2", "api-2-2", "api-3"]
        assert list(turnstile.limiters) == names
        turnstile.limiters["api-2"].close()
        assert turnstile.limiter("api", 5).name == "api-2"


async def test_a_limiter_made_elsewhere_can_join() -> None:
    """The limiter joins with holders and waiters, under a name that is free in the turnstile."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        turnstile.limiter("api", 5)
        api = Limiter("api", 1, throttle=STEP_BY_STEP)
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        assert turnstile.add(api) is api
        assert api.name == api.statistics().name == "api-2"
        api.total_tokens = 2
        await wait_all_tasks_blocked()
        turnstile.down("api-2")
        await wait_all_tasks_blocked()
        assert (api.total_tokens, api.borrowed_tokens) == (1, 2)


async def test_a_limiter_joins_one_turnstile_once() -> None:
    """A limiter joins one turnstile only, because a second one would be a second writer."""
    async with open_turnstile() as one, open_turnstile() as two:
        api = one.limiter("api", 5)
        for turnstile in (one, two):
            with pytest.raises(RuntimeError, match="limiter 'api' is in a turnstile already"):
                turnstile.add(api)
        assert not two.limiters


async def test_a_closed_limiter_cannot_join() -> None:
    """A closed limiter cannot join even if it was closed with another turnstile."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
    async with open_turnstile() as turnstile:
        with pytest.raises(trio.ClosedResourceError, match="limiter 'api' is closed"):
            turnstile.add(api)
        assert not turnstile.limiters


async def test_adding_from_a_foreign_thread_changes_nothing() -> None:
    """The call is refused, and the limiter can still join."""
    api = Limiter("api", 5)
    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 5)
        with pytest.raises(RuntimeError):
            await trio.to_thread.run_sync(turnstile.add, api)
        assert api.name == "api"
        assert turnstile.add(api).name == "api-2"


async def test_its_repr_names_its_limiters() -> None:
    """The repr of a turnstile shows its open limiters."""
    async with open_turnstile() as turnstile:
        assert repr(turnstile) == "<trio_turnstile.Turnstile of no limiters>"
        turnstile.limiter("api", 5)
        turnstile.limiter("db", 5)
        assert repr(turnstile) == "<trio_turnstile.Turnstile of api, db>"
