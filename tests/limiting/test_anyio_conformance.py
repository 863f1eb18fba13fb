"""`Limiter` keeps the promises of `anyio.CapacityLimiter` that trio's own tests do not ask for."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import free
from trio_turnstile import Limiter


async def hold_until(limiter: Limiter, released: trio.Event, inside: list[str], name: str) -> None:
    async with limiter:
        inside.append(name)
        await released.wait()


@pytest.mark.parametrize("newcomers", [0, 1, 3])
async def test_growth_lets_in_who_waits_before_who_comes(newcomers: int) -> None:
    """A task that waited gets in at once, and newcomers get the tokens that are left over."""
    limiter, released, inside = free(ceiling=1), trio.Event(), list[str]()
    async with trio.open_nursery() as nursery:
        for name in ("holder", "waiter"):
            nursery.start_soon(hold_until, limiter, released, inside, name)
            await wait_all_tasks_blocked()
        assert inside == ["holder"]
        limiter.total_tokens = 3
        for _ in range(newcomers):
            nursery.start_soon(hold_until, limiter, released, inside, "newcomer")
        await wait_all_tasks_blocked()
        assert inside == ["holder", "waiter", "newcomer"][: 2 + newcomers]
        released.set()
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("tokens", [1, 3])
async def test_a_token_on_its_way_to_a_waiter_is_not_free(tokens: int) -> None:
    """Before the waiter has noticed its token, nobody else gets it without blocking."""
    limiter = free(ceiling=tokens)
    for borrower in range(tokens):
        limiter.acquire_on_behalf_of_nowait(borrower)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        limiter.release_on_behalf_of(0)
        with pytest.raises(trio.WouldBlock):
            limiter.acquire_on_behalf_of_nowait("quick")
        assert (limiter.borrowed_tokens, limiter.available_tokens) == (tokens, 0)
    assert set(limiter.statistics().borrowers) == {*range(1, tokens), "waiter"}


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_no_token_is_lost_between_a_release_and_a_cancellation(cancel_first: bool) -> None:
    """If both happen before the waiter runs, the next waiter gets the token."""
    limiter, released, inside = free(ceiling=1), trio.Event(), list[str]()
    limiter.acquire_on_behalf_of_nowait("holder")
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as impatient:
            impatient.start_soon(hold_until, limiter, released, inside, "impatient")
            await wait_all_tasks_blocked()
            nursery.start_soon(hold_until, limiter, released, inside, "next")
            await wait_all_tasks_blocked()
            strikes = [
                impatient.cancel_scope.cancel,
                lambda: limiter.release_on_behalf_of("holder"),
            ]
            for strike in strikes if cancel_first else reversed(strikes):
                strike()
        await wait_all_tasks_blocked()
        assert inside[-1] == "next"
        released.set()
    assert limiter.statistics().borrowers == []


async def test_tasks_that_return_take_turns(autojump_clock: MockClock) -> None:
    """A task that comes back at once stands behind those that wait."""
    limiter, turns = free(ceiling=1), list[int]()

    async def take_turns(number: int) -> None:
        for _ in range(3):
            async with limiter:
                turns.append(number)
                await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(take_turns, number)
            await wait_all_tasks_blocked()
    assert turns == [0, 1, 2] * 3


@pytest.mark.parametrize("tokens", [0, 2, float("inf")])
def test_it_is_made_and_retuned_before_any_run(tokens: float) -> None:
    """Before any run there is nobody to wake, and the limit holds in the run that follows."""
    limiter = free(ceiling=1)
    limiter.total_tokens = tokens
    statistics = limiter.statistics()
    assert (statistics.total_tokens, statistics.borrowed_tokens) == (tokens, 0)
    assert (statistics.borrowers, statistics.tasks_waiting) == ([], 0)

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            for borrower in range(5):
                nursery.start_soon(limiter.acquire_on_behalf_of, borrower)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return limiter.borrowed_tokens

    assert trio.run(main) == min(tokens, 5)


@pytest.mark.parametrize("tokens", ["2", 3.0, None, -1])
def test_a_refused_limit_changes_nothing(tokens: Any) -> None:
    """A refused limit leaves the old one, and no decision is recorded."""
    limiter = free(ceiling=2)
    with pytest.raises((TypeError, ValueError)):
        limiter.total_tokens = tokens
    assert limiter.total_tokens == 2
    assert limiter.decisions == ()
