"""`Limiter.total_tokens`: the operator sets the limit."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import (
    wait_all_tasks_blocked,
)

from testkit.limiters import free, reasons
from trio_turnstile import (
    Decision,
    Event,
    LimiterOpened,
    Reason,
    open_turnstile,
)


async def test_an_assignment_holds_at_once() -> None:
    """The limit moves at once, up and down; tokens borrowed above the limit show as negative."""
    api = free(ceiling=3)
    for borrower in "abc":
        api.acquire_on_behalf_of_nowait(borrower)
    api.total_tokens = 1
    assert (api.total_tokens, api.available_tokens) == (1, -2)
    api.total_tokens = 4
    assert (api.available_tokens, api.ceiling) == (1, 4)
    assert [(d.before, d.after, d.reason) for d in api.decisions] == [
        (3, 1, Reason.MANUAL),
        (1, 4, Reason.MANUAL),
    ]


def test_an_assignment_outside_any_run_is_taken() -> None:
    """A limiter may be made and set at import time, where there is no clock."""
    api = free(ceiling=3)
    api.total_tokens = 5
    assert api.total_tokens == 5
    assert api.decisions == (Decision("api", -math.inf, None, 3, 5, Reason.MANUAL),)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (1.5, TypeError, "total_tokens must be an int or math.inf"),
        (True, TypeError, "total_tokens must be an int or math.inf"),
        ("5", TypeError, "total_tokens must be an int or math.inf"),
        (math.nan, TypeError, "total_tokens must be an int or math.inf"),
        (-1, ValueError, "total_tokens must be >= 0"),
    ],
)
def test_a_bad_assignment_is_refused_as_trio_does_and_changes_nothing(
    value: object, error: type[Exception], message: str
) -> None:
    """The exceptions and messages are those of trio, and no decision is recorded."""
    api = free(ceiling=3)
    with pytest.raises(error) as caught:
        api.total_tokens = value  # type: ignore[assignment]
    assert str(caught.value) == message
    assert (api.total_tokens, api.available_tokens, api.decisions) == (3, 3, ())


@pytest.mark.parametrize("in_turnstile", [False, True])
async def test_an_assignment_from_a_foreign_thread_is_refused_before_anything_is_changed(
    in_turnstile: bool,
) -> None:
    """The waiter stays in the queue, and a later assignment wakes it."""
    async with open_turnstile() as turnstile:
        api = turnstile.add(free()) if in_turnstile else free()
        async with trio.open_nursery() as nursery:
            api.acquire_on_behalf_of_nowait("holder")
            nursery.start_soon(api.acquire_on_behalf_of, "waiter")
            await wait_all_tasks_blocked()
            before = api.statistics()
            with pytest.raises(RuntimeError) as caught:
                await trio.to_thread.run_sync(setattr, api, "total_tokens", 5)
            assert str(caught.value) == (
                "total_tokens of limiter 'api' was used from outside the trio run that uses "
                "the limiter, where it could not wake the waiting tasks: use up(), down() or "
                "pause(), or trio.from_thread.run_sync()"
            )
            assert api.statistics() == before
            assert api.decisions == ()
            api.total_tokens = 2
        assert set(api.statistics().borrowers) == {"holder", "waiter"}


async def test_an_assignment_handed_over_from_a_thread_works() -> None:
    """``trio.from_thread.run_sync(setattr, ...)`` runs it in the trio run."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.add(free())
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(trio.from_thread.run_sync, setattr, api, "total_tokens", 5)
        await wait_all_tasks_blocked()
        assert (api.total_tokens, api.borrowed_tokens) == (5, 2)


async def test_another_run_may_not_assign_to_the_limiter_of_a_turnstile() -> None:
    """A trio run in another thread may not assign to the limiter of a turnstile."""
    async with open_turnstile() as turnstile:
        api = turnstile.add(free())

        async def assign() -> None:
            api.total_tokens = 5

        with pytest.raises(RuntimeError, match="outside the trio run"):
            await trio.to_thread.run_sync(trio.run, assign)
        assert api.total_tokens == 1


async def test_an_assignment_ends_a_pause_and_is_recorded() -> None:
    """Observers get the decision of an assignment as they get every other."""
    told: list[Event] = []
    async with open_turnstile(observers=[told.append]) as turnstile:
        api = turnstile.limiter("api", 5)
        api.pause()
        await wait_all_tasks_blocked()
        api.total_tokens = 2
        assert api.total_tokens == 2
        assert not api.statistics().paused
        assert reasons(api) == [Reason.PAUSED, Reason.MANUAL]
        assert told == [LimiterOpened("api", told[0].time, 5), *api.decisions]
