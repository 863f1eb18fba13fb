"""`Limiter`: trio's tokens with a name, a limit that moves, and an end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.lowlevel import current_task
from trio.testing import (
    MockClock,
    assert_checkpoints,
    assert_no_checkpoints,
    wait_all_tasks_blocked,
)

from trio_turnstile import (
    Decision,
    Event,
    Limiter,
    LimiterOpened,
    LimiterStatistics,
    Reason,
    Saturated,
    Signal,
    Throttle,
    open_turnstile,
)
from trio_turnstile.limits import Sample


def free(name: str = "api", ceiling: float = 1, **options: Any) -> Limiter:
    """Return a limiter that may go down to 0."""
    return Limiter(name, ceiling, throttle=Throttle(min=0, hold=0), **options)


def reasons(limiter: Limiter) -> list[Reason]:
    return [decision.reason for decision in limiter.decisions]


# ---- what it is ----


def test_it_tells_its_name_and_bounds() -> None:
    """The limit starts at the ceiling; the floor is the throttle's minimum."""
    api = Limiter("api", 10, throttle=Throttle(min=3))
    assert (api.name, api.total_tokens, api.ceiling, api.minimum) == ("api", 10, 10, 3)
    assert (api.borrowed_tokens, api.available_tokens, api.decisions) == (0, 10, ())


def test_it_starts_at_what_its_policy_proposes() -> None:
    """A policy holds from the start, also before it is first heard."""
    assert Limiter("api", 10, policy=Proposal(4.5)).total_tokens == 4


async def test_its_repr_says_how_busy_it_is() -> None:
    """Name, tokens and queue; and that it is closed, once it is."""
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
    """One frozen value, for people and for tests."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(min=2, hold=0), policy=Proposal(5.0))
        api.acquire_on_behalf_of_nowait("holder")
        api.down()
        await wait_all_tasks_blocked()
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
        )
        api.pause()
        await wait_all_tasks_blocked()
        assert api.statistics().paused
        api.close()
        assert api.statistics().closed


# ---- tokens, as trio has them ----


async def test_async_with_borrows_and_gives_back() -> None:
    """For the current task, with a checkpoint on the way in and none on the way out."""
    api = free()
    with assert_checkpoints():
        await api.__aenter__()
    assert api.statistics().borrowers == [current_task()]
    with assert_no_checkpoints():
        await api.__aexit__(None, None, None)
    assert api.borrowed_tokens == 0
    with pytest.raises(KeyError):
        async with api:
            raise KeyError
    assert api.borrowed_tokens == 0


async def test_acquire_and_release_are_for_the_current_task() -> None:
    """Blocking and not; ``acquire`` checkpoints even if a token is free."""
    api = free()
    with assert_checkpoints():
        await api.acquire()
    with pytest.raises(RuntimeError, match="already holding"):
        await api.acquire()
    with pytest.raises(RuntimeError, match="already holding"):
        api.acquire_nowait()
    with assert_no_checkpoints():
        api.release()
    with pytest.raises(RuntimeError, match="isn't holding"):
        api.release()
    with assert_no_checkpoints():
        api.acquire_nowait()
    with pytest.raises(trio.WouldBlock):
        api.acquire_on_behalf_of_nowait("another")
    api.release()


async def test_others_can_borrow_through_one_task() -> None:
    """Any hashable object may stand for a holder."""
    api = free(ceiling=2)
    with assert_checkpoints():
        await api.acquire_on_behalf_of("one")
    api.acquire_on_behalf_of_nowait("two")
    with pytest.raises(RuntimeError, match="already holding"):
        await api.acquire_on_behalf_of("one")
    assert (api.borrowed_tokens, api.available_tokens) == (2, 0)
    api.release_on_behalf_of("one")
    with pytest.raises(RuntimeError, match="isn't holding"):
        api.release_on_behalf_of("one")


async def test_a_cancelled_acquire_takes_no_token() -> None:
    """Whether it was cancelled before it began or while it waited."""
    api = free()
    with trio.CancelScope() as scope:
        scope.cancel()
        await api.acquire()
    assert api.borrowed_tokens == 0
    api.acquire_on_behalf_of_nowait("holder")
    with trio.move_on_after(0) as scope:
        await api.acquire()
    assert scope.cancelled_caught
    assert api.statistics().tasks_waiting == 0
    api.release_on_behalf_of("holder")
    assert api.borrowed_tokens == 0


async def test_trio_threads_take_it_for_a_limiter() -> None:
    """``trio.to_thread.run_sync(..., limiter=...)`` holds a token while the thread runs."""
    api = free()
    assert await trio.to_thread.run_sync(lambda: api.borrowed_tokens, limiter=api) == 1  # type: ignore[arg-type]
    assert api.borrowed_tokens == 0


def test_an_interrupt_at_any_line_leaks_no_token(interrupted: Callable[..., bool]) -> None:
    """Ctrl-C, pressed while any line of the limiter runs, comes out, and the token is back."""

    async def use(api: Limiter) -> None:
        async with api:
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()  # where an interrupt that was held back comes out

    lines, struck = 0, True
    while struck:
        api = free()
        file = "_limiting/limiter.py"
        struck = interrupted(partial(use, api), lines + 1, event="line", modules={file})
        assert api.borrowed_tokens == 0
        lines += struck
    assert lines > 5


# ---- waiting ----


async def test_waiters_are_served_in_turn() -> None:
    """First come, first served, also when several tokens come free at once."""
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
    """One may wait here; the next gets `Saturated`, which says all there is to say."""
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
    """``max_waiting=0`` sheds what cannot be served at once, and only that."""
    api = free(max_waiting=0)
    async with api:
        with pytest.raises(Saturated):
            await api.acquire_on_behalf_of("another")
    async with api:
        pass


async def test_a_paused_limiter_sheds_too() -> None:
    """The queue is bounded whatever it is that makes it grow."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5, max_waiting=0)
        api.pause()
        await wait_all_tasks_blocked()
        with pytest.raises(Saturated, match="has 0 callers waiting for its 0 tokens"):
            await api.acquire()


async def test_wait_idle_returns_when_the_last_token_is_back() -> None:
    """At once if none is borrowed, and it checkpoints then too."""
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
    """Waiting tasks do not count, and get no token until the limiter is resumed."""
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


# ---- moving the limit by hand ----


async def test_an_assignment_holds_at_once() -> None:
    """Both ways; what is borrowed over a lowered limit shows as negative."""
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
    """A limiter may be made and tuned at import time; it has no clock to tell there."""
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
    """Same exceptions and messages; no decision is recorded."""
    api = free(ceiling=3)
    with pytest.raises(error) as caught:
        api.total_tokens = value  # type: ignore[assignment]
    assert str(caught.value) == message
    assert (api.total_tokens, api.available_tokens, api.decisions) == (3, 3, ())


@pytest.mark.parametrize("in_turnstile", [False, True])
async def test_an_assignment_from_a_foreign_thread_is_refused_before_anything_is_changed(
    in_turnstile: bool,
) -> None:
    """The waiting task stays in the queue and is woken by a proper assignment later."""
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
    """``trio.from_thread.run_sync(setattr, ...)`` runs it where it belongs."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.add(free())
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        await trio.to_thread.run_sync(trio.from_thread.run_sync, setattr, api, "total_tokens", 5)
        await wait_all_tasks_blocked()
        assert (api.total_tokens, api.borrowed_tokens) == (5, 2)


async def test_another_run_may_not_assign_to_the_limiter_of_a_turnstile() -> None:
    """A run in another thread is foreign too."""
    async with open_turnstile() as turnstile:
        api = turnstile.add(free())

        async def assign() -> None:
            api.total_tokens = 5

        with pytest.raises(RuntimeError, match="outside the trio run"):
            await trio.to_thread.run_sync(trio.run, assign)
        assert api.total_tokens == 1


async def test_an_assignment_ends_a_pause_and_is_recorded() -> None:
    """The decision goes to the observers, like every other."""
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


# ---- moving the limit by signals ----


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
    """The error says so, and names the three ways out."""
    with pytest.raises(RuntimeError) as caught:
        order(free())
    assert str(caught.value) == (
        "limiter 'api' is in no turnstile, so nothing acts on signals: make it with "
        "turnstile.limiter(...), pass it to turnstile.add(...), or assign total_tokens"
    )


@pytest.mark.parametrize(("name", "order"), orders())
async def test_a_closed_limiter_takes_no_orders(
    name: str, order: Callable[[Limiter], None]
) -> None:
    """In a turnstile and outside of one."""
    async with open_turnstile() as turnstile:
        for api in (free(), turnstile.limiter("db", 5)):
            api.close()
            with pytest.raises(trio.ClosedResourceError, match=f"'{api.name}' is closed"):
                order(api)


async def test_signals_move_the_limit_under_the_rules(autojump_clock: MockClock) -> None:
    """Down by two, held, refused, and up again when the hold is over."""
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
    """Nobody is cut off; nobody is let in until there is room."""
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
    """The limit is 0 meanwhile, and what it was after."""
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
    """It is recorded, and the throttle task neither hangs nor spins."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        await trio.sleep(3600)
        api.pause(1e-15)  # a float cannot hold the sum of both
        await trio.sleep(1)
        assert api.total_tokens == 5
        assert reasons(api) == [Reason.PAUSED, Reason.RESUMED]


async def test_the_last_two_hundred_decisions_are_kept() -> None:
    """Oldest first, so that "why is it at 7?" has an answer and no memory is lost."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 300, throttle=Throttle(down=1, hold=0))
        for _ in range(250):
            api.down()
        await wait_all_tasks_blocked()
        assert [decision.after for decision in api.decisions] == list(range(249, 49, -1))


# ---- policies ----


@attrs.define
class Proposal:
    """A policy that proposes what it is told, and notes what it hears."""

    limit: float
    heard: list[tuple[int, int]] = attrs.field(factory=list)

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        self.heard.append((in_flight, waiting))

    def on_start(self, now: float, in_flight: int) -> None:
        pass

    def on_finish(self, sample: Sample) -> None:
        pass

    def why(self) -> Mapping[str, object]:
        return {"proposed": self.limit}


async def test_a_policy_is_heard_with_the_state_and_followed(autojump_clock: MockClock) -> None:
    """About ten times a second, from the moment that the limiter joins."""
    policy = Proposal(1.0)
    api = Limiter("api", 10, policy=policy)
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        turnstile.add(api)
        await trio.sleep(0.95)
        assert policy.heard == [(1, 1)] * 10
        policy.limit = 2.5
        await trio.sleep(0.1)
        assert (api.total_tokens, api.borrowed_tokens) == (2, 2)
        (decision,) = api.decisions
        assert (decision.reason, decision.evidence) == (
            Reason.POLICY,
            {"cap": 10, "proposed": 2.5},
        )


async def test_a_limiter_with_a_policy_is_heard_at_once_when_it_joins_late(
    autojump_clock: MockClock,
) -> None:
    """The throttle task does not sleep over it, though it had nothing to do before."""
    async with open_turnstile(sample_every=1000) as turnstile:
        await trio.sleep(50)
        policy = Proposal(5.0)
        turnstile.add(Limiter("api", 10, policy=policy))
        await wait_all_tasks_blocked()
        assert policy.heard == [(0, 0)]


# ---- closing ----


async def test_closing_breaks_waiters_and_newcomers_while_holders_finish() -> None:
    """Each waiter gets `trio.ClosedResourceError`; tokens come back as ever."""
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
    """It is woken by the last holder, not by waiters that are sent away."""
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
    """A task that has a token and has not run since is a holder: only who waits is sent away."""
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
    """A task that need not wait lets others run before it goes on; one of them may close."""

    async def close(api: Limiter) -> None:
        assert api.borrowed_tokens == 1
        api.close()

    for _ in range(20):  # which of the two goes on first, trio leaves to chance
        api = free()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close, api)
            await api.acquire()
        assert api.statistics().closed
        api.release()


async def test_who_is_cancelled_with_a_token_of_the_last_moment_gives_it_back() -> None:
    """The scope is cancelled after the token came and before the task has run, then all ends."""
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
    """It has left the queue: the closing hands it nothing that it would have to give back."""
    api = free(ceiling=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.acquire)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        api.close()
        assert api.borrowed_tokens == 0
    assert api.borrowed_tokens == 0


async def test_a_newcomer_to_a_closed_limiter_takes_no_token_even_for_a_moment() -> None:
    """Not even if it had one before: it gets the error, and others may run first."""
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
    """It would have to wake the waiters; a second closing has nothing to do."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5)
        with pytest.raises(RuntimeError, match=r"close\(\) of limiter 'api' was used from outside"):
            await trio.to_thread.run_sync(api.close)
        assert not api.statistics().closed
        api.close()
        await trio.to_thread.run_sync(api.close)


def test_closing_outside_any_run() -> None:
    """A limiter that nobody uses can be closed anywhere."""
    api = free()
    api.close()
    assert api.statistics().closed


async def test_signals_posted_before_the_closing_do_no_harm() -> None:
    """They come too late: a closed limiter is not moved, ticked or resumed."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 5, policy=Proposal(3.0))
        await wait_all_tasks_blocked()
        api.up()
        api.pause(1)
        api.resume()
        api.close()
        await wait_all_tasks_blocked()
        assert api.decisions == ()
