"""`Dispatcher`: posted functions run, and only limiters with something to do are visited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import STEP_BY_STEP, Proposal
from trio_turnstile import Decision, Event, LimiterOpened, Turnstile, open_turnstile
from trio_turnstile._limiting import dispatcher as module
from trio_turnstile._limiting.actuator import LimitActuator
from trio_turnstile._limiting.dispatcher import Dispatcher
from trio_turnstile._limiting.observers import Observers


@attrs.define(eq=False)
class Member:
    """A member that notes when it was visited."""

    next: float = float("inf")
    """When it wants to be visited again."""
    visits: list[float] = attrs.field(factory=list)
    then: Callable[[], None] = lambda: None
    """Called at each visit."""
    always: bool = False
    """Whether it always wants to be visited at once."""

    def tick(self, now: float) -> float:
        self.visits.append(now)
        self.then()
        if now >= self.next:
            self.next = float("inf")
        return now if self.always else self.next


@attrs.define(eq=False)
class Host:
    """A host without limiters that keeps the names it is told to forget."""

    forgotten: list[str] = attrs.field(factory=list)

    def forget(self, name: str) -> None:
        self.forgotten.append(name)

    def adopt(self, limiter: object, name: str, dispatcher: Dispatcher) -> None:
        raise NotImplementedError

    def dismiss(self, limiter: object) -> None:
        raise NotImplementedError


@asynccontextmanager
async def running() -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(Observers([]), Host())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatcher.run)
        yield dispatcher
        nursery.cancel_scope.cancel()


# ---- visits ----


async def test_a_member_is_visited_when_it_is_woken_and_when_it_asked_to_be(
    autojump_clock: MockClock,
) -> None:
    """A member is visited once at each of these times, and at no other."""
    async with running() as dispatcher:
        member, other = Member(next=5.0), Member(next=3.0)
        dispatcher.wake(member)
        dispatcher.wake(member)
        dispatcher.wake(other)
        await trio.sleep(100)
        dispatcher.wake(member)
        await trio.sleep(100)
        assert (member.visits, other.visits) == ([0, 5, 100], [0, 3])


async def test_a_member_that_was_moved_is_not_visited_at_the_old_time(
    autojump_clock: MockClock,
) -> None:
    """Only the last time that a member asked for counts, whether sooner or later."""
    async with running() as dispatcher:
        member = Member(next=5.0)
        dispatcher.wake(member)
        for later in (8.0, 3.0, 6.0):
            await wait_all_tasks_blocked()
            member.next = later
            dispatcher.wake(member)
        await trio.sleep(100)
        assert member.visits == [0, 0, 0, 0, 6]


async def test_a_forgotten_member_is_not_visited(autojump_clock: MockClock) -> None:
    """A forgotten member is not visited, even if it was woken before or its time comes."""
    async with running() as dispatcher:
        due, woken = Member(next=5.0), Member()
        dispatcher.wake(due)
        await wait_all_tasks_blocked()
        dispatcher.wake(woken)
        dispatcher.forget("due", due)
        dispatcher.forget("woken", woken)
        await trio.sleep(100)
        assert (due.visits, woken.visits) == ([0], [])


async def test_a_member_that_wakes_itself_does_not_starve_other_tasks() -> None:
    """Each visit is in a round of its own, with a checkpoint before it."""
    async with running() as dispatcher:
        member = Member()
        member.then = lambda: dispatcher.wake(member)
        dispatcher.wake(member)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert 1 <= len(member.visits) <= 11


async def test_a_member_that_is_always_due_does_not_starve_other_tasks() -> None:
    """A member that is always due is visited once per round."""
    async with running() as dispatcher:
        member = Member(always=True)
        dispatcher.wake(member)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert 1 <= len(member.visits) <= 11


async def test_times_that_are_out_of_date_are_dropped_from_the_heap(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause that is extended again and again does not fill the memory."""
    monkeypatch.setattr(module, "STALE_ENTRIES_KEPT", 10)
    async with running() as dispatcher:
        member, other = Member(), Member(next=700.0)
        dispatcher.wake(other)
        for number in range(100):
            member.next = 500.0 + number
            dispatcher.wake(member)
            await wait_all_tasks_blocked()
        assert len(dispatcher._heap) <= 2 * 2 + 10
        await trio.sleep(1000)
        assert (member.visits[100:], other.visits) == ([599], [0, 700])


# ---- visits of the limiters of a turnstile ----


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the limiters that are visited from now on, in order."""
    names: list[str] = []
    tick = LimitActuator.tick

    def note(actuator: LimitActuator, now: float) -> float:
        names.append(actuator._controller.name)
        return tick(actuator, now)

    monkeypatch.setattr(LimitActuator, "tick", note)
    return names


async def crowd(turnstile: Turnstile) -> None:
    """Add a hundred limiters, and wait until all have been visited."""
    for number in range(100):
        turnstile.limiter(f"l{number}", 10, throttle=STEP_BY_STEP)
    await wait_all_tasks_blocked()


async def test_a_signal_to_one_limiter_visits_no_other(visited: list[str]) -> None:
    """Only the signalled limiter is visited, whether by a signal of its own or the turnstile's."""
    async with open_turnstile() as turnstile:
        await crowd(turnstile)
        visited.clear()
        turnstile.limiters["l7"].down()
        await wait_all_tasks_blocked()
        turnstile.down("l8")
        await wait_all_tasks_blocked()
        assert visited == ["l7", "l8"]
        assert turnstile.limiters["l7"].total_tokens == 9


async def test_only_limiters_with_a_policy_are_visited_ten_times_a_second(
    autojump_clock: MockClock, visited: list[str]
) -> None:
    """Limiters without a policy have nothing to do until they get a signal."""
    async with open_turnstile() as turnstile:
        await crowd(turnstile)
        policy = Proposal(5.0)
        turnstile.limiter("adaptive", 10, policy=policy)
        await wait_all_tasks_blocked()
        visited.clear()
        await trio.sleep(0.95)
        assert visited == ["adaptive"] * 9
        assert len(policy.ticks) == 10


async def test_a_limiter_that_is_closed_before_its_turn_is_not_ticked(
    autojump_clock: MockClock,
) -> None:
    """An observer closes the limiter in the round in which it is due; it stays closed."""

    def close_second(event: Event) -> None:
        if isinstance(event, Decision):
            second.close()

    policies = [Proposal(5.0), Proposal(5.0)]
    async with open_turnstile(observers=[close_second]) as turnstile:
        first, second = (turnstile.limiter("api", 10, policy=policy) for policy in policies)
        policies[0].limit = 4.0
        await trio.sleep(0.95)
        assert (first.total_tokens, second.statistics().closed) == (4, True)
    assert (len(policies[0].ticks), policies[1].ticks) == (10, [])


async def test_a_call_through_a_limiter_visits_none(visited: list[str]) -> None:
    """Acquiring and releasing tokens does not wake the throttle task."""
    async with open_turnstile() as turnstile:
        await crowd(turnstile)
        visited.clear()
        async with turnstile.limiters["l7"]:
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert visited == []


async def test_pauses_of_many_limiters_end_on_time(
    autojump_clock: MockClock, visited: list[str]
) -> None:
    """Each limiter is visited when it is paused and when its pause ends."""
    async with open_turnstile() as turnstile:
        await crowd(turnstile)
        visited.clear()
        for seconds in (3, 1, 2):
            turnstile.limiters[f"l{seconds}"].pause(seconds)
        await trio.sleep(1.5)
        assert turnstile.limiters["l1"].total_tokens == 10
        assert turnstile.limiters["l2"].total_tokens == 0
        await trio.sleep(2)
        assert visited == ["l3", "l1", "l2", "l1", "l2", "l3"]


# ---- posting ----


async def test_what_is_posted_is_run_in_order_with_the_time(autojump_clock: MockClock) -> None:
    """Posted functions run in order and get the time; the caller itself runs nothing."""
    async with running() as dispatcher:
        await trio.sleep(7)
        calls: list[tuple[str, float]] = []
        for name in "abc":
            dispatcher.post(lambda now, name=name: calls.append((name, now)))  # type: ignore[misc]
        assert not calls
        await wait_all_tasks_blocked()
        assert calls == [("a", 7), ("b", 7), ("c", 7)]


async def test_closing_runs_what_was_posted_and_refuses_the_rest() -> None:
    """A signal that was sent before the turnstile was left is not lost."""
    dispatcher = Dispatcher(Observers([]), Host())
    calls: list[float] = []
    dispatcher.post(calls.append)
    dispatcher.close()
    assert len(calls) == 1
    with pytest.raises(trio.ClosedResourceError, match="the turnstile is closed"):
        dispatcher.post(calls.append)


async def test_the_name_of_a_forgotten_member_is_passed_on() -> None:
    """The turnstile gets the name of a forgotten member, and can give it to another limiter."""
    host = Host()
    dispatcher = Dispatcher(Observers([]), host)
    dispatcher.forget("api", Member())
    assert host.forgotten == ["api"]


async def test_observers_are_notified_at_once() -> None:
    """Observers are called in the task that made the event."""
    events: list[object] = []
    dispatcher = Dispatcher(Observers([events.append]), Host())
    event = LimiterOpened("api", 0.0, 10)
    dispatcher.notify(event)
    assert events == [event]
