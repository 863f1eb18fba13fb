"""`Limiter.close`: waiters are sent away, holders finish."""

from __future__ import annotations

import pytest
import trio
from trio.lowlevel import current_task
from trio.testing import (
    assert_checkpoints,
    wait_all_tasks_blocked,
)

from testkit.limiters import Proposal, free
from trio_turnstile import (
    Limiter,
    open_turnstile,
)


async def test_closing_breaks_waiters_and_newcomers_while_holders_finish() -> None:
    """Waiters get `trio.ClosedResourceError`; holders give back their tokens as before."""
    api = free()
    errors: list[str] = []

    async def wait(number: int) -> None:
        with pytest.raises(trio.ClosedResourceError) as caught:
            await api.acquire_on_behalf_of(number)
        errors.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        await api.acquire()
        for number in range(3):
            nursery.start_soon(wait, number)
        await wait_all_tasks_blocked()
        api.close()
        api.close()
    assert errors == ["limiter 'api' is closed"] * 3
    with pytest.raises(trio.ClosedResourceError):
        await api.acquire_on_behalf_of("newcomer")
    with pytest.raises(trio.ClosedResourceError):
        api.acquire_on_behalf_of_nowait("newcomer")
    with pytest.raises(trio.ClosedResourceError):
        api.acquire_nowait()
    with pytest.raises(trio.ClosedResourceError):
        api.total_tokens = 5
    assert api.statistics().borrowers == [current_task()]
    api.release()
    await api.wait_idle()
    assert api.borrowed_tokens == 0


async def test_a_task_that_waits_for_idleness_outlives_the_closing() -> None:
    """A task that waits for idleness is woken by the last holder, not by the closing."""
    api = free()
    idle = trio.Event()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await api.acquire_on_behalf_of("waiter")

    async def note() -> None:
        await api.wait_idle()
        idle.set()

    async with trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(wait)
        nursery.start_soon(note)
        await wait_all_tasks_blocked()
        api.close()
        await wait_all_tasks_blocked()
        assert not idle.is_set()
        api.release_on_behalf_of("holder")


@pytest.mark.parametrize("act", ["release", "assign"])
async def test_a_token_handed_out_just_before_the_closing_is_kept(act: str) -> None:
    """A task that has a token but has not run since is a holder; only waiters are sent away."""
    api = free()
    outcomes: list[str] = []

    async def wait(name: str) -> None:
        try:
            await api.acquire_on_behalf_of(name)
        except trio.ClosedResourceError:
            outcomes.append(f"{name} is sent away")
        else:
            outcomes.append(f"{name} has a token")

    async with trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        for name in ("first", "second"):
            nursery.start_soon(wait, name)
            await wait_all_tasks_blocked()
        if act == "release":
            api.release_on_behalf_of("holder")
        else:
            api.total_tokens = 2
        api.close()
    assert sorted(outcomes) == ["first has a token", "second is sent away"]
    held = {"first"} if act == "release" else {"holder", "first"}
    assert set(api.statistics().borrowers) == held
    for name in held:
        api.release_on_behalf_of(name)
    await api.wait_idle()


async def test_a_free_token_taken_just_before_the_closing_is_kept() -> None:
    """``acquire`` lets other tasks run before it returns; one of them may close the limiter."""

    async def close(api: Limiter) -> None:
        assert api.borrowed_tokens == 1
        api.close()

    for _ in range(20):  # trio leaves it to chance which of the two goes on first
        api = free()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close, api)
            await api.acquire()
        assert api.statistics().closed
        api.release()


async def test_a_task_cancelled_just_after_it_got_a_token_gives_it_back() -> None:
    """The scope is cancelled after the task got the token and before it ran."""
    api = free()

    async def work() -> None:
        async with api:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        api.release_on_behalf_of("holder")
        nursery.cancel_scope.cancel()
        api.close()
        assert api.borrowed_tokens == 1
    assert api.borrowed_tokens == 0


async def test_a_waiter_cancelled_and_then_closed_out_is_just_cancelled() -> None:
    """The waiter has left the queue, so closing gives it no token that it would have to return."""
    api = free(ceiling=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.acquire)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        api.close()
        assert api.borrowed_tokens == 0
    assert api.borrowed_tokens == 0


async def test_a_newcomer_to_a_closed_limiter_takes_no_token_even_for_a_moment() -> None:
    """The newcomer gets the error at a checkpoint, even if it holds a token from before."""
    api = free()
    await api.acquire()
    api.close()
    with assert_checkpoints(), pytest.raises(trio.ClosedResourceError):
        await api.acquire()
    assert api.borrowed_tokens == 1
    api.release()
    with trio.move_on_after(0) as scope:
        await api.acquire()
    assert scope.cancelled_caught


async def test_closing_from_a_foreign_thread_is_refused() -> None:
    """The call would have to wake the waiters; a closed limiter may be closed again anywhere."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        with pytest.raises(RuntimeError, match=r"close\(\) of limiter 'api' was used from outside"):
            await trio.to_thread.run_sync(api.close)
        assert not api.statistics().closed
        api.close()
        await trio.to_thread.run_sync(api.close)


def test_closing_outside_any_run() -> None:
    """A limiter that is not in use can be closed anywhere."""
    api = free()
    api.close()
    assert api.statistics().closed


async def test_signals_posted_before_the_closing_do_no_harm() -> None:
    """A closed limiter is not moved, ticked or resumed."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5, policy=Proposal(3.0))
        await wait_all_tasks_blocked()
        api.up()
        api.pause(1)
        api.resume()
        api.close()
        await wait_all_tasks_blocked()
        assert api.decisions == ()
