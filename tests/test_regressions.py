"""Faults that other limiters and pools have shipped, each turned into a test.

They were found in the trackers and changelogs of concurrency limiters, worker pools and
throttles in several languages. Each test is named after the behaviour that must hold instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import (
    Backoff,
    Channels,
    Limiter,
    Manager,
    Reason,
    Retry,
    Scalable,
    Signal,
    Throttle,
    open_turnstile,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


class Task(Scalable):
    """An operation that works for a second, and counts how many run."""

    running = 0
    peak = 0

    @classmethod
    def reset(cls) -> None:
        cls.running = cls.peak = 0

    async def work(self, channels: Channels) -> None:
        Task.running += 1
        Task.peak = max(Task.peak, Task.running)
        try:
            await trio.sleep(1)
        finally:
            Task.running -= 1


@pytest.fixture(autouse=True)
def no_tasks() -> None:
    Task.reset()


def endless() -> Iterator[Task]:
    while True:
        yield Task()


# ---- the hold ----


async def test_an_alarm_faster_than_the_hold_does_not_freeze_the_limit(
    autojump_clock: MockClock,
) -> None:
    """A refused signal does not extend the hold."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 100, throttle=Throttle(hold=30))
        for _ in range(100):
            api.down()
            await trio.sleep(1)
        changes = [decision.time for decision in api.decisions if decision.applied]
        assert changes == [0.0, 30.0, 60.0, 90.0]


async def test_a_burst_of_one_alarm_cuts_once(autojump_clock: MockClock) -> None:
    """Twelve signals within the hold lower the limit once."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 100, throttle=Throttle(down=10))
        for _ in range(12):
            api.down()
            await trio.sleep(1)
        assert api.total_tokens == 90


async def test_a_throttle_keeps_its_state_between_calls(autojump_clock: MockClock) -> None:
    """A limit that was lowered stays so when the limiter is idle for an hour."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        async with api:
            api.down()
            await trio.sleep(1)
        await trio.sleep(3600)
        async with api:
            assert api.total_tokens == 8


# ---- growing ----


async def test_enlarging_wakes_waiters_at_once() -> None:
    """A raised limit, by hand or by signal, wakes waiters before any holder ends."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 6, throttle=Throttle(min=1, hold=0))
        api.total_tokens = 1
        for borrower in range(4):
            nursery.start_soon(api.acquire_on_behalf_of, borrower)
        await wait_all_tasks_blocked()
        assert api.borrowed_tokens == 1
        api.total_tokens = 2
        assert api.borrowed_tokens == 2
        api.up()
        await wait_all_tasks_blocked()
        assert api.borrowed_tokens == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["limiter", "capacity limiter"])
async def test_enlarging_is_felt_at_once_by_a_run_that_is_going_on(
    kind: str, autojump_clock: MockClock
) -> None:
    """A run in progress uses a raised limit before any operation ends."""
    limiter = Limiter("api", 1) if kind == "limiter" else trio.CapacityLimiter(1)
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(partial(run_phases, endless(), limiter=limiter))
        await wait_all_tasks_blocked()
        assert Task.running == 1
        limiter.total_tokens = 10
        await wait_all_tasks_blocked()
        assert Task.running == 10
        nursery.cancel_scope.cancel()
    assert_conserved(manager)


async def test_a_pool_can_grow_past_the_size_it_was_made_with(autojump_clock: MockClock) -> None:
    """A run that was given a number as its limiter can grow past it."""
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(partial(run_phases, endless(), limiter=2))
        await trio.sleep(0.5)
        manager.limiter.total_tokens = 500
        await wait_all_tasks_blocked()
        assert Task.running == 500
        nursery.cancel_scope.cancel()
    assert_conserved(manager)


# ---- shrinking ----


async def test_shrinking_below_what_runs_grants_nothing_until_there_is_room() -> None:
    """While more tokens are in use than the limit, released ones are not reused."""
    api = Limiter("api", 5)
    async with trio.open_nursery() as nursery:
        for borrower in range(5):
            api.acquire_on_behalf_of_nowait(borrower)
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        api.total_tokens = 2
        assert api.available_tokens == -3
        for borrower in range(3):
            api.release_on_behalf_of(borrower)
            assert api.borrowed_tokens == 4 - borrower
        api.release_on_behalf_of(3)
        assert set(api.statistics().borrowers) == {4, "waiter"}


async def test_a_run_shrinks_with_its_limit_and_grows_again(autojump_clock: MockClock) -> None:
    """No more operations begin than a moving limit allows."""
    api = Limiter("api", 10, throttle=Throttle(min=0))
    async with trio.open_nursery() as nursery:
        manager: Manager = await nursery.start(partial(run_phases, endless(), limiter=api))
        for limit in (10, 2, 7, 0, 3):
            api.total_tokens = limit
            await trio.sleep(1.5)  # the operations over the limit have ended
            Task.peak = Task.running
            await trio.sleep(5.2)  # so that no change falls on the moment of looking
            assert Task.peak == Task.running == limit
            assert_conserved(manager)
        nursery.cancel_scope.cancel()
    assert api.borrowed_tokens == 0


async def test_the_minimum_is_kept_under_any_number_of_alarms() -> None:
    """No number of signals lowers the limit below its minimum."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, throttle=Throttle(down=7, min=2, hold=0))
        for _ in range(100):
            api.down()
        await wait_all_tasks_blocked()
        assert {decision.after for decision in api.decisions} == {3, 2}
        api.up()
        await wait_all_tasks_blocked()
        assert api.total_tokens == 3


# ---- the total ----


async def test_what_is_checked_and_taken_never_exceeds_the_total(
    autojump_clock: MockClock,
) -> None:
    """A thousand tasks, some of them cancelled, never hold more than ten tokens."""
    api = Limiter("api", 10)
    over = 0

    async def use(number: int) -> None:
        nonlocal over
        with trio.move_on_after(number % 7 + 0.5):
            try:
                api.acquire_nowait()
            except trio.WouldBlock:
                await api.acquire()
            try:
                over += api.borrowed_tokens > 10
                await trio.sleep(number % 3)
            finally:
                api.release()

    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(use, number)
    assert over == 0
    assert api.borrowed_tokens == 0


async def test_runs_that_share_a_limiter_never_exceed_it_together(
    autojump_clock: MockClock,
) -> None:
    """Two runs and another task that share a limiter stay within it together."""
    api = Limiter("api", 5)

    async def stranger() -> None:
        for _ in range(20):
            async with api:
                await Task().work(None)  # type: ignore[arg-type]

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(partial(run_phases, [Task() for _ in range(50)], limiter=api))
        nursery.start_soon(stranger)
    assert Task.peak == 5
    assert api.borrowed_tokens == 0


# ---- leaks ----


async def test_a_cancelled_run_leaks_no_token(autojump_clock: MockClock) -> None:
    """A run cancelled at work, in a queue or in a back-off leaks no token."""

    class Faulty(Task):
        async def work(self, channels: Channels) -> None:
            await super().work(channels)
            raise OSError

    api = Limiter("api", 5)
    for seconds in (0.0, 0.5, 1.0, 1.5, 3.0):
        with trio.move_on_after(seconds):
            await run_phases(
                (Faulty() for _ in range(100)),
                limiter=api,
                prepare_limiter=8,
                on_error=[Retry(9, backoff=lambda _: 1.0)],
            )
        assert api.borrowed_tokens == 0
        assert api.statistics().tasks_waiting == 0


async def test_a_waiter_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    """A released token skips a waiter that was cancelled."""
    api = Limiter("api", 1)
    async with trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        async with trio.open_nursery() as impatient:
            impatient.start_soon(api.acquire_on_behalf_of, "first")
            await wait_all_tasks_blocked()
            nursery.start_soon(api.acquire_on_behalf_of, "second")
            await wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        api.release_on_behalf_of("holder")
        assert api.statistics().borrowers == ["second"]


async def test_idleness_is_noticed_though_a_run_queues_for_the_token() -> None:
    """`wait_idle` returns although a run waits for the token with nothing to do."""
    api = Limiter("api", 1)
    idle = trio.Event()

    async def wait_idle() -> None:
        await api.wait_idle()
        idle.set()

    send, receive = trio.open_memory_channel[Scalable](0)
    with send, receive:
        async with trio.open_nursery() as nursery:
            api.acquire_on_behalf_of_nowait("holder")
            nursery.start_soon(partial(run_phases, receive, limiter=api))
            nursery.start_soon(wait_idle)
            await wait_all_tasks_blocked()
            api.release_on_behalf_of("holder")
            await wait_all_tasks_blocked()
            assert api.borrowed_tokens == 0
            assert idle.is_set()
            nursery.cancel_scope.cancel()


# ---- waiting ----


async def test_a_limiter_that_blocks_does_not_reject(autojump_clock: MockClock) -> None:
    """Without ``max_waiting``, any number of tasks may wait, even in a pause of a day."""
    served = 0

    async def use(api: Limiter) -> None:
        nonlocal served
        async with api:
            served += 1

    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 1)
        api.pause(24 * 3600 - 1)
        await wait_all_tasks_blocked()
        for _ in range(1000):
            nursery.start_soon(use, api)
        await trio.sleep(3600)
        assert (served, api.statistics().tasks_waiting) == (0, 1000)
        api.resume()
    assert served == 1000


async def test_a_run_is_never_turned_away_by_a_limiter_that_sheds_load(
    autojump_clock: MockClock,
) -> None:
    """``max_waiting`` rejects no operation of a run; the source is held back instead."""
    api = Limiter("api", 2, max_waiting=0)
    report = await run_phases([Task() for _ in range(20)], limiter=api)
    assert report.completed == 20
    assert Task.peak == 2
    assert_conserved(report)


async def test_no_slot_is_held_during_a_back_off(autojump_clock: MockClock) -> None:
    """Another operation runs while one backs off."""
    seen: list[tuple[str, float]] = []

    @attrs.define(eq=False)
    class Named(Scalable):
        name: str

        async def work(self, channels: Channels) -> None:
            seen.append((self.name, trio.current_time()))
            await trio.sleep(1)
            if self.name == "faulty" and len(seen) == 1:
                raise OSError

    api = Limiter("api", 1)
    report = await run_phases(
        [Named("faulty"), Named("sound")],
        limiter=api,
        on_error=[Retry(1, backoff=lambda _: 10.0)],
    )
    assert seen == [("faulty", 0.0), ("sound", 1.0), ("faulty", 11.0)]
    assert (report.completed, report.retried) == (2, 1)
    assert_conserved(report)


def test_back_off_does_not_overflow_after_very_many_failures() -> None:
    """The back-off stays at its maximum after a million failures."""
    assert Backoff(1.0, 30.0, uniform=lambda _, most: most)(10**6) == 30.0


# ---- limiters are separate ----


async def test_the_trouble_of_one_limiter_does_not_throttle_the_others() -> None:
    """Signals and pauses of one limiter leave the others unchanged."""
    async with open_turnstile() as turnstile:
        keys = [turnstile.limiter("key", 10) for _ in range(3)]
        turnstile.down("key-2")
        keys[2].pause()
        await wait_all_tasks_blocked()
        assert [key.total_tokens for key in keys] == [10, 8, 0]


@attrs.define
class Creeping:
    """A policy whose limit grows by a third of a token at each tick."""

    limit: float = 1.0

    def on_tick(self, now: float, in_flight: int, waiting: int) -> None:
        self.limit += 1 / 3

    def why(self) -> Mapping[str, object]:
        return {"proposed": self.limit}


async def test_small_steps_of_a_policy_are_not_swallowed_by_rounding(
    autojump_clock: MockClock,
) -> None:
    """Fractions of a policy's limit add up: a limit of 1 does not stay 1."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 4, policy=Creeping())
        await trio.sleep(1.05)
        assert api.total_tokens == 4
        assert [decision.after for decision in api.decisions] == [2, 3, 4]


async def test_a_limit_that_masks_the_policy_is_to_be_seen(autojump_clock: MockClock) -> None:
    """Statistics show the cap beside the limit, and a decision shows which one acted."""
    policy = Creeping(20.0)
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10, policy=policy)
        await trio.sleep(1)
        state = api.statistics()
        assert (state.total_tokens, state.cap, state.ceiling) == (10, 10, 10)
        assert policy.limit > 20
        api.down()
        await wait_all_tasks_blocked()
        (decision,) = api.decisions
        assert (decision.signal, decision.reason) == (Signal.DOWN, Reason.SIGNAL)
        assert (decision.after, decision.evidence["cap"]) == (8, 8)


async def test_averages_keep_their_fractions(autojump_clock: MockClock) -> None:
    """An average below 1 is not rounded to 0."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 10)
        async with api:
            await trio.sleep(5)
        await trio.sleep(6)
        assert turnstile.history.averages("api")[10] == pytest.approx(0.4)


async def test_an_infinite_ceiling_can_be_signalled_down(autojump_clock: MockClock) -> None:
    """A signal lowers an infinite limit from the number of tokens in use."""
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", math.inf)
        for borrower in range(10):
            api.acquire_on_behalf_of_nowait(borrower)
        api.down()
        await wait_all_tasks_blocked()
        assert (api.total_tokens, api.available_tokens) == (8, -2)
