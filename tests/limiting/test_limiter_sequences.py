"""Random sequences of everything that can be done to a limiter, each replayed in one run.

After every act the limiter is checked against the rules that hold at any instant, and
against a model of the queue that knows only: first come, first served, while there is room.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Decision, Event, Limiter, Reason, Throttle, open_turnstile

Act: TypeAlias = tuple[str, object, bool]
"""The act, what it is done with, and whether every task may run before the next act."""

EIGHTHS = st.integers(0, 80).map(lambda n: n / 8)
"""Seconds that floats add exactly."""

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.none(), st.just(True)),
        st.tuples(st.just("acquire"), st.none(), st.just(True)),
        st.tuples(st.just("acquire_nowait"), st.none(), st.booleans()),
        st.tuples(st.just("release"), st.integers(0), st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0), st.booleans()),
        st.tuples(st.just("up"), st.none(), st.just(True)),
        st.tuples(st.just("down"), st.none(), st.just(True)),
        st.tuples(st.just("pause"), EIGHTHS.filter(bool) | st.none(), st.just(True)),
        st.tuples(st.just("resume"), st.none(), st.just(True)),
        st.tuples(st.just("assign"), st.integers(0, 6) | st.just(math.inf), st.booleans()),
        st.tuples(st.just("wait"), EIGHTHS, st.just(True)),
        st.tuples(st.just("close"), st.none(), st.booleans()),
    ),
    max_size=50,
)

RULES = st.builds(
    Throttle, up=st.integers(1, 3), down=st.integers(1, 3), min=st.integers(0, 3), hold=EIGHTHS
)


@attrs.define
class Sequence:
    """One limiter, its users, and the state that the model expects."""

    limiter: Limiter
    nursery: trio.Nursery
    holders: list[int] = attrs.field(factory=list)
    """The users with a token, in the order in which they got it."""
    queue: dict[int, trio.CancelScope] = attrs.field(factory=dict)
    """The users who wait, in the order in which they came."""
    told_to_go: set[int] = attrs.field(factory=set)
    """The users who waited when the limiter was closed, or came after."""
    gone: set[int] = attrs.field(factory=set)
    """The users who got the error that says so."""
    closed: bool = False
    born: int = 0

    async def do(self, act: str, value: object, settle: bool = True) -> None:
        """Do one act, let the tasks run, and update the model."""
        getattr(self, act)(value)
        if act == "wait":
            assert isinstance(value, float)
            await trio.sleep(value)
        if settle:
            await wait_all_tasks_blocked()
        self.grant()
        # Waiters that are about to be sent away hold a token until they have run.
        if settle or not self.closed:
            self.check()

    def acquire(self, _: object) -> None:
        borrower = self.newcomer()
        scope = trio.CancelScope()
        self.nursery.start_soon(self._acquire, borrower, scope)
        self.queue[borrower] = scope

    async def _acquire(self, borrower: int, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await self.limiter.acquire_on_behalf_of(borrower)
            except trio.ClosedResourceError:
                self.gone.add(borrower)

    def acquire_nowait(self, _: object) -> None:
        borrower = self.newcomer()
        try:
            self.limiter.acquire_on_behalf_of_nowait(borrower)
        except trio.WouldBlock:
            assert len(self.holders) >= self.limiter.total_tokens, "a token was free"
        except trio.ClosedResourceError:
            assert self.closed
        else:
            assert not self.closed
            assert not self.queue, "somebody jumped the queue"
            assert len(self.holders) < self.limiter.total_tokens, "no token was free"
            self.holders.append(borrower)

    def release(self, value: object) -> None:
        if not self.holders:
            with pytest.raises(RuntimeError):
                self.limiter.release_on_behalf_of("nobody")
            return
        assert isinstance(value, int)
        borrower = self.holders.pop(value % len(self.holders))
        self.limiter.release_on_behalf_of(borrower)

    def cancel(self, value: object) -> None:
        assert isinstance(value, int)
        if self.queue:
            self.queue.pop(list(self.queue)[value % len(self.queue)]).cancel()

    def up(self, _: object) -> None:
        if not self.closed:
            self.limiter.up()

    def down(self, _: object) -> None:
        if not self.closed:
            self.limiter.down()

    def pause(self, value: object) -> None:
        assert value is None or isinstance(value, float)
        if not self.closed:
            self.limiter.pause(value)

    def resume(self, _: object) -> None:
        if not self.closed:
            self.limiter.resume()

    def assign(self, value: object) -> None:
        assert isinstance(value, int | float)
        if self.closed:
            with pytest.raises(trio.ClosedResourceError):
                self.limiter.total_tokens = value
            return
        self.limiter.total_tokens = value
        assert self.limiter.total_tokens == value

    def wait(self, _: object) -> None:
        pass

    def close(self, _: object) -> None:
        self.limiter.close()
        self.closed = True

    def newcomer(self) -> int:
        self.born += 1
        return self.born

    def grant(self) -> None:
        """Give tokens to the first waiters while there are any."""
        if self.closed:
            self.told_to_go |= self.queue.keys()
            self.queue.clear()
        while self.queue and len(self.holders) < self.limiter.total_tokens:
            first = next(iter(self.queue))
            del self.queue[first]
            self.holders.append(first)

    def check(self) -> None:
        """Assert that the limiter shows what the model expects."""
        state = self.limiter.statistics()
        assert set(state.borrowers) == set(self.holders)
        assert len(state.borrowers) == state.borrowed_tokens == len(self.holders)
        assert state.tasks_waiting == len(self.queue)
        assert state.closed == self.closed
        assert self.gone == self.told_to_go


def check_rules(decisions: tuple[Decision, ...], rules: Throttle, ceiling: float) -> None:
    """Assert that the decisions kept the hold and the bounds."""
    changed, highest, cap = -math.inf, ceiling, ceiling
    for decision in decisions:
        now = decision.time
        match decision.reason:
            case Reason.MANUAL:
                changed, cap = now, decision.after
                highest = max(highest, cap)
            case Reason.SIGNAL:
                before, cap = cap, decision.evidence["cap"]  # type: ignore[assignment]
                assert now - changed >= rules.hold, "moved within the hold"
                assert cap <= highest
                assert cap >= min(before, rules.min)
                changed = now
            case Reason.HOLDING:
                assert now - changed < rules.hold, "refused after the hold"
        assert decision.after in (0, cap)


def replay(acts: list[Act], rules: Throttle, ceiling: float) -> None:
    decisions: list[Decision] = []

    def observe(event: Event) -> None:
        if isinstance(event, Decision):
            decisions.append(event)

    async def main() -> None:
        async with (
            open_turnstile(observers=[observe], sample_every=math.inf) as turnstile,
            trio.open_nursery() as nursery,
        ):
            limiter = turnstile.limiter("api", ceiling, throttle=rules)
            sequence = Sequence(limiter, nursery)
            for act in acts:
                await sequence.do(*act)
            await wind_up(sequence)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    check_rules(tuple(decisions), rules, ceiling)


async def wind_up(sequence: Sequence) -> None:
    """Raise the limit and let all finish: every waiter is served, and no token is lost."""
    if not sequence.closed:
        await sequence.do("assign", math.inf)
    while sequence.holders:
        await sequence.do("release", 0)
    assert not sequence.queue
    await sequence.limiter.wait_idle()
    assert sequence.limiter.borrowed_tokens == 0


@settings(deadline=None)
@example(
    acts=[("acquire", None, True), ("assign", math.inf, False), ("close", None, True)],
    rules=Throttle(min=0),
    headroom=0,
)
@given(acts=ACTS, rules=RULES, headroom=st.integers(0, 6) | st.just(math.inf))
def test_any_sequence_keeps_the_limit_the_order_and_the_tokens(
    acts: list[Act], rules: Throttle, headroom: float
) -> None:
    """The limit and the order are kept, no token is free while a task waits, and none is lost."""
    replay(acts, rules, rules.min + headroom)


@settings(deadline=None)
@given(
    acts=st.lists(st.sampled_from(["up", "down", "pause", "resume", "acquire", "release"])),
    minimum=st.integers(1, 3),
)
def test_signals_in_one_instant_are_acted_on_in_the_order_in_which_they_came(
    acts: list[str], minimum: int
) -> None:
    """The order of signals is kept even if many are posted before the throttle task runs."""
    rules = Throttle(up=1, down=1, min=minimum, hold=0)

    async def main() -> None:
        async with open_turnstile() as turnstile:
            limiter = turnstile.limiter("api", 6, throttle=rules)
            cap, paused = 6, False
            for act in acts:
                match act:
                    case "up":
                        limiter.up()
                        cap = min(cap + 1, 6)
                    case "down":
                        limiter.down()
                        cap = max(cap - 1, minimum)
                    case "pause":
                        limiter.pause()
                        paused = True
                    case "resume":
                        limiter.resume()
                        paused = False
            await wait_all_tasks_blocked()
            assert limiter.total_tokens == (0 if paused else cap)

    trio.run(main, clock=MockClock(autojump_threshold=0))
