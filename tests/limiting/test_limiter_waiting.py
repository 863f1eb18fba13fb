"""`Limiter`: the queue, load shedding, and waiting until nothing runs."""

from __future__ import annotations

import pytest
import trio
from trio.testing import (
    assert_checkpoints,
    wait_all_tasks_blocked,
)

from testkit.limiters import free
from trio_turnstile import (
    Saturated,
    open_turnstile,
)


async def test_waiters_are_served_in_turn() -> None:
    """Tasks are served first come, first served, even if several tokens become free at once."""
    api = free(ceiling=1)
    api.acquire_on_behalf_of_nowait("holder")
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(api.acquire_on_behalf_of, number)
            await wait_all_tasks_blocked()
        api.release_on_behalf_of("holder")
        assert set(api.statistics().borrowers) == {0}
        api.total_tokens = 3
        assert set(api.statistics().borrowers) == {0, 1, 2}
        with pytest.raises(trio.WouldBlock):
            api.acquire_on_behalf_of_nowait("somebody who jumps the queue")
        api.release_on_behalf_of(1)
        assert set(api.statistics().borrowers) == {0, 2, 3}
        api.total_tokens = 4
    assert set(api.statistics().borrowers) == {0, 2, 3, 4}


async def test_past_max_waiting_a_caller_is_turned_away_at_once() -> None:
    """One task may wait; the next gets `Saturated`, and the error says why."""
    api = free(ceiling=1, max_waiting=1)
    async with trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        with pytest.raises(Saturated) as caught:
            await api.acquire()
        assert (caught.value.limiter, caught.value.waiting, caught.value.limit) == ("api", 1, 1)
        assert str(caught.value) == (
            "limiter 'api' has 1 callers waiting for its 1 tokens, and max_waiting "
            "allows no more: turn the request away or try again later"
        )
        assert api.statistics().tasks_waiting == 1
        api.release_on_behalf_of("holder")
        await wait_all_tasks_blocked()
        api.release_on_behalf_of("waiter")
    async with api:
        pass


async def test_with_no_waiting_allowed_a_free_token_is_still_given() -> None:
    """``max_waiting=0`` turns away only callers that would have to wait."""
    api = free(max_waiting=0)
    async with api:
        with pytest.raises(Saturated):
            await api.acquire_on_behalf_of("another")
    async with api:
        pass


async def test_a_paused_limiter_sheds_too() -> None:
    """The length of the queue is bounded, whatever makes it grow."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5, max_waiting=0)
        api.pause()
        await wait_all_tasks_blocked()
        with pytest.raises(Saturated, match="has 0 callers waiting for its 0 tokens"):
            await api.acquire()


async def test_wait_idle_returns_when_the_last_token_is_back() -> None:
    """If no token is borrowed, it returns at once, with a checkpoint."""
    api = free(ceiling=2)
    with assert_checkpoints():
        await api.wait_idle()
    for borrower in "ab":
        api.acquire_on_behalf_of_nowait(borrower)
    idle: list[int] = []

    async def note(number: int) -> None:
        await api.wait_idle()
        idle.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note, 1)
        nursery.start_soon(note, 2)
        await wait_all_tasks_blocked()
        api.release_on_behalf_of("a")
        await wait_all_tasks_blocked()
        assert not idle
        api.release_on_behalf_of("b")
        await wait_all_tasks_blocked()
        assert sorted(idle) == [1, 2]


async def test_pause_and_wait_idle_give_a_quiet_moment() -> None:
    """Waiters do not count, and get no token until the limiter is resumed."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 1)
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        api.pause()
        await wait_all_tasks_blocked()
        api.release_on_behalf_of("holder")
        with assert_checkpoints():
            await api.wait_idle()
        await wait_all_tasks_blocked()
        assert (api.borrowed_tokens, api.statistics().tasks_waiting) == (0, 1)
        api.resume()
        await wait_all_tasks_blocked()
        assert api.statistics().borrowers == ["waiter"]
