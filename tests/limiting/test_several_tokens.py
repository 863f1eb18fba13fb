"""Several tokens at once: in turn, all or none, and never more than the limit."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import Halving, free
from trio_turnstile import (
    Limiter,
    Overloaded,
    Saturated,
    Throttle,
    TooWide,
    open_turnstile,
)

# ---- a model: first come, first served, while there is room ----

Act: TypeAlias = tuple[str, int, bool]
"""The act, what it is done with, and whether every task may run before the next act."""

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("acquire"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("acquire_nowait"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("release"), st.integers(0), st.booleans()),
        st.tuples(st.just("release"), st.integers(0), st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0), st.just(True)),
        st.tuples(st.just("assign"), st.integers(0, 6), st.booleans()),
    ),
    max_size=40,
)


@attrs.define
class Model:
    """A limiter, its users, and what the test expects of them."""

    limiter: Limiter
    nursery: trio.Nursery
    holders: dict[int, int] = attrs.field(factory=dict)
    """The tokens of each user who holds some."""
    queue: dict[int, tuple[int, trio.CancelScope]] = attrs.field(factory=dict)
    """The users who wait, in the order in which they came, with the tokens they want."""
    expected_told: set[int] = attrs.field(factory=set)
    """The users whose limit has become too low."""
    told: set[int] = attrs.field(factory=set)
    """The users who got the error that says so."""
    got: list[int] = attrs.field(factory=list)
    """The users whose `acquire` has returned."""
    served: list[int] = attrs.field(factory=list)
    """The users whom the model has served out of the queue."""
    born: int = 0

    async def do(self, act: str, value: int, settle: bool) -> None:
        getattr(self, act)(value)
        # trio chooses the order of tasks that begin in the same round.
        if settle or act == "acquire":
            await wait_all_tasks_blocked()
        self.serve()
        self.check()

    def acquire(self, width: int) -> None:
        borrower, scope = self.newcomer(), trio.CancelScope()
        self.nursery.start_soon(self._acquire, borrower, width, scope)
        if 0 < self.limiter.total_tokens < width:
            self.expected_told.add(borrower)
        else:
            self.queue[borrower] = width, scope

    async def _acquire(self, borrower: int, width: int, scope: trio.CancelScope) -> None:
        with scope:
            try:
                if width:
                    await self.limiter.tokens(width).acquire_on_behalf_of(borrower)
                else:  # the plain way
                    await self.limiter.acquire_on_behalf_of(borrower)
            except TooWide:
                self.told.add(borrower)
            else:
                self.got.append(borrower)

    def acquire_nowait(self, width: int) -> None:
        borrower, tokens = self.newcomer(), self.limiter.total_tokens
        room = tokens - sum(self.holders.values())
        try:
            if width:
                self.limiter.tokens(width).acquire_on_behalf_of_nowait(borrower)
            else:
                self.limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            assert self.queue or max(width, 1) > room
        except TooWide:
            assert 0 < tokens < width
        else:
            assert not self.queue, "somebody jumped the queue"
            assert max(width, 1) <= room
            self.holders[borrower] = max(width, 1)

    def release(self, value: int) -> None:
        if self.holders:
            borrower = list(self.holders)[value % len(self.holders)]
            del self.holders[borrower]
            self.limiter.release_on_behalf_of(borrower)

    def cancel(self, value: int) -> None:
        if self.queue:
            borrower = list(self.queue)[value % len(self.queue)]
            self.queue.pop(borrower)[1].cancel()

    def assign(self, value: int) -> None:
        self.limiter.total_tokens = value
        for borrower, (width, _) in tuple(self.queue.items()):
            if 0 < value < width:
                del self.queue[borrower]
                self.expected_told.add(borrower)

    def newcomer(self) -> int:
        self.born += 1
        return self.born

    def serve(self) -> None:
        while self.queue:
            borrower, (width, _) = next(iter(self.queue.items()))
            width = max(width, 1)
            if sum(self.holders.values()) + width > self.limiter.total_tokens:
                return
            del self.queue[borrower]
            self.holders[borrower] = width
            self.served.append(borrower)

    def check(self) -> None:
        limiter, statistics = self.limiter, self.limiter.statistics()
        assert set(statistics.borrowers) == self.holders.keys()
        assert limiter.borrowed_tokens == sum(self.holders.values())
        assert limiter.available_tokens == limiter.total_tokens - limiter.borrowed_tokens
        assert statistics.borrowed_tokens == limiter.borrowed_tokens
        assert statistics.tasks_waiting == len(self.queue)

    async def end(self) -> None:
        """Serve everyone who still waits, and check that nothing is left of them."""
        self.assign(6)
        while self.holders or self.queue:
            await wait_all_tasks_blocked()
            self.serve()
            self.check()
            self.release(0)
        await wait_all_tasks_blocked()
        assert self.told == self.expected_told
        assert sorted(self.got) == sorted(self.served)
        self.limiter.total_tokens = 3
        for width in (3, 0):
            self.acquire_nowait(width)
            self.release(0)
        assert self.limiter.borrowed_tokens == 0


@given(ACTS, st.integers(0, 6))
@example(
    [("acquire", 1, True), ("acquire", 4, True), ("acquire", 0, True), ("release", 0, True)], 4
)
@example([("acquire", 2, True), ("acquire", 3, True), ("assign", 2, False)], 3)
@settings(deadline=None)
def test_any_sequence_agrees_with_the_model(acts: list[Act], limit: int) -> None:
    """Narrow and wide requests together are served in the order in which they came."""

    async def main() -> None:
        limiter = Limiter("gpu", 6, throttle=Throttle(min=0))
        limiter.total_tokens = limit
        async with trio.open_nursery() as nursery:
            model = Model(limiter, nursery)
            for act in acts:
                await model.do(*act)
            await model.end()

    trio.run(main)


# ---- turns ----


async def use(limiter: Limiter, tokens: int, log: list[int], seconds: float = 1) -> None:
    """Hold some tokens for some seconds."""
    async with limiter.tokens(tokens):
        log.append(tokens)
        await trio.sleep(seconds)


async def test_narrow_requests_do_not_overtake_a_wide_one_for_ever(
    autojump_clock: MockClock,
) -> None:
    """A stream of narrow ones waits while the tokens for the wide one come together."""
    limiter, log = Limiter("gpu", 4), list[int]()
    async with trio.open_nursery() as nursery:
        for begin in range(20):
            await trio.sleep(0.25)
            nursery.start_soon(use, limiter, 4 if begin == 6 else 1, log)
            await wait_all_tasks_blocked()
    assert log.index(4) == 6


async def test_two_wide_requests_do_not_wait_for_each_other(autojump_clock: MockClock) -> None:
    """Only the first of two wide requests in the line gathers tokens."""
    limiter, log = Limiter("gpu", 4), list[int]()
    async with trio.open_nursery() as nursery:
        for tokens in (2, 3, 3, 4, 1):
            nursery.start_soon(use, limiter, tokens, log)
            await wait_all_tasks_blocked()
    assert log == [2, 3, 3, 4, 1]


async def test_the_others_go_on_when_a_wide_request_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    """The tokens kept for a cancelled wide request go to those behind it."""
    limiter, log = Limiter("gpu", 3), list[int]()
    async with limiter, trio.open_nursery() as others:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, limiter, 3, log)
            await wait_all_tasks_blocked()
            others.start_soon(use, limiter, 1, log)
            await wait_all_tasks_blocked()
            assert log == []
            assert limiter.available_tokens == 2
            with pytest.raises(trio.WouldBlock):
                limiter.acquire_on_behalf_of_nowait("later")
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert log == [1]


async def test_plain_requests_that_came_before_go_before(autojump_clock: MockClock) -> None:
    """Tasks that wait in the queue of trio's limiter are served first."""
    limiter, log = Limiter("gpu", 2), list[int]()
    await limiter.acquire_on_behalf_of("one")
    await limiter.acquire_on_behalf_of("two")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(limiter.acquire_on_behalf_of, "before")
        await wait_all_tasks_blocked()
        nursery.start_soon(use, limiter, 2, log)
        await wait_all_tasks_blocked()
        nursery.start_soon(limiter.acquire_on_behalf_of, "after")
        await wait_all_tasks_blocked()
        limiter.release_on_behalf_of("one")
        limiter.release_on_behalf_of("two")
        assert limiter.statistics().borrowers == ["before"]
        limiter.release_on_behalf_of("before")
        await trio.sleep(0.5)
        assert log == [2]
        await trio.sleep(1)
        assert limiter.statistics().borrowers == ["after"]
        limiter.release_on_behalf_of("after")
    assert limiter.borrowed_tokens == 0


async def test_a_cancelled_request_takes_nothing_at_whatever_moment(
    autojump_clock: MockClock,
) -> None:
    """A request takes nothing if cancelled before or during its wait, or just when served."""
    limiter = Limiter("gpu", 2)
    with trio.CancelScope() as scope:
        scope.cancel()
        await limiter.tokens(2).acquire()
    assert limiter.borrowed_tokens == 0
    with trio.move_on_after(1):
        async with limiter.tokens(2):
            await trio.sleep_forever()
    assert limiter.borrowed_tokens == 0
    await limiter.acquire_on_behalf_of("holder")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, limiter, 2, list[int]())
            await wait_all_tasks_blocked()
            limiter.release_on_behalf_of("holder")
            scope.cancel()
    assert limiter.borrowed_tokens == 0
    limiter.tokens(2).acquire_on_behalf_of_nowait("somebody")


# ---- too wide ----


async def test_more_than_the_ceiling_is_an_error_at_once() -> None:
    """The error says how many tokens there are; nothing is taken, and nobody is held up."""
    limiter = Limiter("gpu", 4)
    with pytest.raises(TooWide, match="limiter 'gpu' has a limit of 4 tokens, and 5 were asked"):
        async with limiter.tokens(5):
            raise AssertionError
    with pytest.raises(TooWide) as caught:
        limiter.tokens(9).acquire_nowait()
    assert (caught.value.limiter, caught.value.tokens, caught.value.limit) == ("gpu", 9, 4)
    async with limiter.tokens(4):
        assert limiter.available_tokens == 0


async def test_a_limit_that_falls_tells_whoever_wants_more(autojump_clock: MockClock) -> None:
    """The request that is now too wide gets an error, and those behind it go on."""
    limiter, log = Limiter("gpu", 4), list[int]()

    async def ask() -> None:
        with pytest.raises(TooWide, match="limit of 2 tokens, and 3 were asked for"):
            await limiter.tokens(3).acquire()
        log.append(-3)

    await limiter.tokens(2).acquire_on_behalf_of("holder")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        nursery.start_soon(use, limiter, 2, log)
        await wait_all_tasks_blocked()
        limiter.total_tokens = 2
        await wait_all_tasks_blocked()
        assert log == [-3]
        limiter.release_on_behalf_of("holder")
    assert log == [-3, 2]


async def test_signals_and_policies_tell_as_well(autojump_clock: MockClock) -> None:
    """Requests that become too wide get the error whatever lowers the limit for good."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        by_signal = turnstile.limiter("signal", 4, throttle=Throttle(down=2, hold=0))
        by_policy = turnstile.limiter("policy", 4, policy=Halving(limit=4))

        async def ask(limiter: Limiter) -> None:
            with pytest.raises(TooWide, match="limit of 2 tokens"):
                await limiter.tokens(4).acquire()

        await by_signal.acquire_on_behalf_of("holder")
        nursery.start_soon(ask, by_signal)
        await wait_all_tasks_blocked()
        by_signal.down()
        await by_policy.acquire_on_behalf_of("holder")
        with pytest.raises(Overloaded):
            async with by_policy:
                nursery.start_soon(ask, by_policy)
                await trio.sleep(1)
                raise Overloaded
        await trio.sleep(1)
        assert by_policy.load().waiting == by_signal.load().waiting == 0


async def test_a_pause_and_withheld_tokens_are_waited_for(autojump_clock: MockClock) -> None:
    """Pauses and withheld tokens end, so requests wait. A limit of 0 is waited for, too."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        limiter, log = turnstile.limiter("gpu", 4), list[int]()
        with pytest.raises(Overloaded):
            async with limiter:
                raise Overloaded(5)
        nursery.start_soon(use, limiter, 4, log)
        await trio.sleep(4)
        limiter.pause(5)
        await trio.sleep(4.5)
        assert log == []
        await trio.sleep(1)
        assert log == [4]
        nursery.start_soon(use, limiter, 3, log)
        await wait_all_tasks_blocked()
        limiter.total_tokens = 0
        await trio.sleep(9)
        assert log == [4]
        limiter.total_tokens = 3
    assert log == [4, 3]


@pytest.mark.parametrize(
    ("number", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_the_number_of_tokens_is_a_whole_one(number: int, error: type[Exception]) -> None:
    """The error is raised where the limiter is asked, before anything waits."""
    with pytest.raises(error, match="number must be"):
        free().tokens(number)


# ---- what else a limiter does ----


async def test_a_task_has_one_portion_at_a_time() -> None:
    """A second portion is refused like a second token: waiting for it would be in vain."""
    limiter = Limiter("gpu", 8)
    async with limiter.tokens(2):
        for ask in (limiter.acquire, limiter.tokens(2).acquire, limiter.tokens(7).acquire):
            with pytest.raises(RuntimeError, match="already holding"):
                await ask()
        assert limiter.borrowed_tokens == 2
    async with limiter:
        with pytest.raises(RuntimeError, match="already holding"):
            limiter.tokens(1).acquire_nowait()
        with pytest.raises(RuntimeError, match="already holding"):
            await limiter.tokens(8).acquire()
    with pytest.raises(RuntimeError, match="isn't holding"):
        limiter.tokens(2).release()


async def test_one_borrower_in_two_tasks_gets_one_portion() -> None:
    """If one borrower asks in two tasks, the second gets the error when its turn comes."""
    limiter = Limiter("gpu", 2)
    await limiter.acquire_on_behalf_of("holder")
    portion, errors = limiter.tokens(2), list[RuntimeError]()

    async def ask() -> None:
        try:
            await portion.acquire_on_behalf_of("x")
        except RuntimeError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        limiter.release_on_behalf_of("holder")
        await wait_all_tasks_blocked()
        assert limiter.statistics().borrowers == ["x"]
        assert errors == []
        limiter.total_tokens = 4
        await wait_all_tasks_blocked()
        assert len(errors) == 1
        portion.release_on_behalf_of("x")
    assert limiter.borrowed_tokens == 0


async def test_closing_sends_wide_waiters_away_and_lets_holders_finish() -> None:
    """On closing, wide waiters are treated as the others are."""
    limiter = Limiter("gpu", 3)

    async def ask(tokens: int) -> None:
        with pytest.raises(trio.ClosedResourceError, match="limiter 'gpu' is closed"):
            await limiter.tokens(tokens).acquire()

    async with trio.open_nursery() as nursery:
        async with limiter.tokens(2):
            for tokens in (3, 1, 2):
                nursery.start_soon(ask, tokens)
                await wait_all_tasks_blocked()
            limiter.close()
            assert limiter.borrowed_tokens == 2
        assert limiter.borrowed_tokens == 0
    await ask(1)


async def test_max_waiting_counts_both_queues() -> None:
    """A request that would have to wait is refused; one that has room is not."""
    limiter = Limiter("gpu", 3, max_waiting=1)
    await limiter.acquire_on_behalf_of("holder")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, limiter, 3, list[int](), math.inf)
        await wait_all_tasks_blocked()
        for ask in (limiter.acquire, limiter.tokens(1).acquire):
            with pytest.raises(Saturated, match="1 callers waiting for its 3 tokens"):
                await ask()
        nursery.cancel_scope.cancel()
    async with limiter.tokens(2):
        assert limiter.available_tokens == 0


async def test_idle_means_that_nobody_holds_any(autojump_clock: MockClock) -> None:
    """Waiting for idleness and wide requests do not get into each other's way."""
    limiter, log = Limiter("gpu", 3), list[int]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(use, limiter, 3, log, 2)
        await wait_all_tasks_blocked()
        nursery.start_soon(use, limiter, 2, log, 3)
        await limiter.wait_idle()
        assert log == [3, 2]
        assert limiter.load().running == limiter.load().waiting == 0


async def test_threads_take_several_tokens() -> None:
    """A portion can be used as a limiter for trio's threads."""
    limiter = Limiter("gpu", 3)
    portion: Any = limiter.tokens(2)  # trio names the class that it requires
    taken = await trio.to_thread.run_sync(lambda: limiter.borrowed_tokens, limiter=portion)
    assert taken == 2
    assert limiter.borrowed_tokens == 0


async def test_a_portion_says_what_it_is_and_is_used_again() -> None:
    """Any number of tasks may use it, because it holds nothing itself."""
    portion = Limiter("gpu", 3).tokens(2)
    assert portion.number == 2
    assert repr(portion) == "<trio_turnstile.Portion of limiter 'gpu': 2 tokens>"
    for _ in range(2):
        await portion.acquire()
        portion.release()
    portion.acquire_nowait()
    portion.release()


async def test_a_policy_learns_of_calls_with_several_tokens(autojump_clock: MockClock) -> None:
    """The policy sees the tokens in use, not the number of calls."""
    policy = Halving(limit=8)
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        limiter = turnstile.limiter("gpu", 8, policy=policy)
        nursery.start_soon(use, limiter, 5, list[int]())
        await wait_all_tasks_blocked()
        nursery.start_soon(use, limiter, 4, list[int]())
        await trio.sleep(3)
    assert [in_flight for _, in_flight in policy.starts] == [5, 4]
    assert len(policy.samples) == 2
    assert max(in_flight for _, in_flight, _ in policy.ticks) == 5
    assert max(waiting for _, _, waiting in policy.ticks) == 1
