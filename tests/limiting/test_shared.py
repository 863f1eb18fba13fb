"""A limiter that keys share: whose turn it is, limits of single keys, and what is remembered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable
from itertools import pairwise
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import trio.lowlevel
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.limiters import Halving, reasons
from trio_turnstile import (
    Limiter,
    Overloaded,
    Portion,
    Reason,
    Saturated,
    SharedLimiter,
    Throttle,
    TooWide,
    open_turnstile,
)
from trio_turnstile.simulation import jain

SECOND = 1.0


@attrs.define
class Calls:
    """Calls of keys that take a second each, with a record of what became of them."""

    shared: SharedLimiter
    nursery: trio.Nursery
    seconds: float = SECOND
    begun: list[tuple[Hashable, float]] = attrs.field(factory=list)
    """The key and the time of each call that began, in order."""
    waited: dict[Hashable, list[float]] = attrs.field(factory=dict)
    running: Counter[Hashable] = attrs.field(factory=Counter)
    most: Counter[Hashable] = attrs.field(factory=Counter)
    """The most calls that ran at once, by key."""

    async def call(self, way: Portion, key: Hashable) -> None:
        """Make one call."""
        came = trio.current_time()
        async with way:
            now = trio.current_time()
            self.begun.append((key, now))
            self.waited.setdefault(key, []).append(now - came)
            self.running[key] += way.number
            self.most[key] = max(self.most[key], self.running[key])
            assert sum(self.running.values()) <= self.shared.limiter.total_tokens
            await trio.sleep(self.seconds)
            self.running[key] -= way.number

    async def make(self, key: Hashable, number: int = 1, **terms: int) -> None:
        """Let some tasks wait, one after the other."""
        for _ in range(number):
            self.nursery.start_soon(self.call, self.shared.of(key, **terms), key)
        await wait_all_tasks_blocked()

    def shares(self, number: int) -> Counter[Hashable]:
        """Return how many of the first calls belong to each key."""
        return Counter(key for key, _ in self.begun[:number])


# ---- turns ----


async def test_few_calls_do_not_wait_behind_many(autojump_clock: MockClock) -> None:
    """While 1,000 calls of one key wait, ten at once, five of another wait two seconds at most."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        calls = Calls(turnstile.shared("tenants", 10), nursery)
        await calls.make("many", 1000)
        await calls.make("few", 5)
    assert max(calls.waited["few"]) <= 2 * SECOND
    assert max(calls.waited["many"]) == pytest.approx(100, abs=1)


async def test_keys_that_wait_get_equal_shares(autojump_clock: MockClock) -> None:
    """Keys get equal shares however many calls each has, and in whatever order they came."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        calls = Calls(turnstile.shared("tenants", 7), nursery)
        for key in range(10):
            await calls.make(key, 100 + 30 * key)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    counts = calls.shares(700)
    assert jain(list(counts.values())) >= 0.99
    assert len(counts) == 10


async def test_keys_get_shares_by_their_weights(autojump_clock: MockClock) -> None:
    """The shares are right within two per cent, even if a weight is set while its key waits."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("tenants", 10, weight=len)
        calls = Calls(shared, nursery)
        for key in ("a", "bb", "cccc"):
            await calls.make(key, 1500)
        await trio.sleep(50)
        first, calls.begun[:] = calls.begun[:], []
        shared.set("a", weight=4)
        await trio.sleep(50)
        second = calls.begun[:]
        nursery.cancel_scope.cancel()
    for begun, expected in (
        (first[70:], {"a": 1 / 7, "bb": 2 / 7, "cccc": 4 / 7}),
        (second, {"a": 4 / 10, "bb": 2 / 10, "cccc": 4 / 10}),
    ):
        counts = Counter(key for key, _ in begun)
        for key, share in expected.items():
            assert counts[key] / len(begun) == pytest.approx(share, abs=0.02)


async def test_one_key_is_first_come_first_served(autojump_clock: MockClock) -> None:
    """The calls of one key pass in the order of a plain limiter."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared, order = turnstile.shared("x", 1), list[int]()

        async def call(number: int) -> None:
            async with shared.of("key"):
                order.append(number)
                await trio.sleep(1)

        for number in range(6):
            nursery.start_soon(call, number)
            await wait_all_tasks_blocked()
    assert order == list(range(6))


async def test_a_key_that_was_away_gets_no_more_than_its_share(autojump_clock: MockClock) -> None:
    """A key that was away has saved nothing up, and owes nothing."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        calls = Calls(turnstile.shared("tenants", 2), nursery)
        await calls.make("late", 4)
        await calls.make("always", 200)
        await trio.sleep(60)
        calls.begun.clear()
        await calls.make("late", 50)
        await trio.sleep(20.5)
        counts = calls.shares(40)
        nursery.cancel_scope.cancel()
    assert abs(counts["late"] - counts["always"]) <= 2


async def test_priorities_come_before_keys(autojump_clock: MockClock) -> None:
    """A higher priority goes first, and within one priority the keys take turns."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        calls = Calls(turnstile.shared("x", 1, ageing=math.inf), nursery)
        await calls.make("busy")
        await calls.make("a", 3)
        await calls.make("b", 2, priority=1)
        await calls.make("a", 1, priority=1)
        await calls.make("c", 1, priority=2)
    assert [key for key, _ in calls.begun] == ["busy", "c", "b", "a", "b", "a", "a", "a"]


async def test_who_has_waited_long_goes_before_a_higher_priority(
    autojump_clock: MockClock,
) -> None:
    """One step of priority is worth some seconds of waiting, so nobody waits for ever."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        calls = Calls(turnstile.shared("x", 1, ageing=10), nursery)
        await calls.make("low", 2)
        for _ in range(30):
            await calls.make("high", 1, priority=1)
            await trio.sleep(0.75)
    # Those that had come by then go before it; behind all of them it would wait for 23 seconds.
    assert 10 <= max(calls.waited["low"]) <= 16


# ---- limits of keys ----


async def test_a_key_at_its_limit_holds_up_nobody(autojump_clock: MockClock) -> None:
    """Tokens that the key may not have go to others at once; each key keeps to its limit."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 10, each=2)
        calls = Calls(shared, nursery)
        await calls.make("slow", 100)
        for key in "abc":
            await calls.make(key, 2)
        assert {key: max(calls.waited[key]) for key in "abc"} == {"a": 0, "b": 0, "c": 0}
        assert shared.limiter.available_tokens == 2
        nursery.cancel_scope.cancel()
    assert calls.most["slow"] == 2


async def test_the_limit_of_one_key_can_be_set(autojump_clock: MockClock) -> None:
    """The new limit holds at once, in both directions, and is not forgotten."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 10, each=lambda key: len(str(key)))
        calls = Calls(shared, nursery)
        shared.set("later", limit=1)
        await calls.make("abc", 20)
        await calls.make("later", 5)
        assert calls.running == {"abc": 3, "later": 1}
        shared.set("abc", limit=6)
        await wait_all_tasks_blocked()
        assert calls.running["abc"] == 6
        shared.set("abc", limit=1)
        await trio.sleep(1.5)
        assert calls.running["abc"] == 1
        nursery.cancel_scope.cancel()


async def test_several_tokens_of_a_key(autojump_clock: MockClock) -> None:
    """The tokens count against both limits, and a key with too low a limit raises an error."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 5, each=4)
        calls = Calls(shared, nursery)
        with pytest.raises(TooWide, match="key 'a' of limiter 'hosts' has a limit of 4 tokens"):
            await shared.of("a", tokens=5).acquire()
        await calls.make("a", 2, tokens=3)
        await calls.make("a", 2)
        await calls.make("b", 1, tokens=2)
        assert calls.running == {"a": 3, "b": 2}

        async def ask() -> None:
            with pytest.raises(TooWide, match="limit of 1 tokens, and 2 were asked for"):
                await shared.of("a", tokens=2).acquire()

        await trio.sleep(1.5)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        shared.set("a", limit=1)
    assert calls.most["a"] <= 4
    assert shared.limiter.borrowed_tokens == 0


async def test_calls_of_one_key_are_spaced(autojump_clock: MockClock) -> None:
    """Each call begins a fixed time after the one before, even if the key was idle meanwhile."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 10, every=5)
        calls = Calls(shared, nursery)
        await calls.make("a", 3)
        await calls.make("b")
        await trio.sleep(12)
        with pytest.raises(trio.WouldBlock):
            shared.of("a").acquire_nowait()
        await calls.make("a")
        await calls.make(None, 3)
    times = [time for key, time in calls.begun if key == "a"]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([5, 5, 5])
    assert calls.waited["b"] == [0]
    assert calls.waited[None] == [0, 0, 0]


async def test_a_refusal_costs_its_key_a_token(autojump_clock: MockClock) -> None:
    """The other keys go on; the refusal is recorded as a decision, and `resume` ends it."""
    async with open_turnstile() as turnstile:
        shared = turnstile.shared("hosts", 10, each=2)
        for _ in range(2):
            with pytest.raises(Overloaded):
                async with shared.of("a"):
                    raise Overloaded(30)
        with pytest.raises(trio.WouldBlock):
            shared.of("a").acquire_nowait()
        async with shared.of("b"):
            assert shared.limiter.total_tokens == 10
        begin = trio.current_time()
        async with shared.of("a"):
            assert trio.current_time() - begin == pytest.approx(30)
        assert shared.limiter.decisions[0].limiter == "hosts[a]"
        assert reasons(shared.limiter) == [Reason.WITHHELD, Reason.WITHHELD, Reason.RESUMED]
        with pytest.raises(Overloaded):
            async with shared.of("a"):
                raise Overloaded(30)
        shared.of("never used")
        shared.limiter.resume()
        await trio.sleep(1)
        async with shared.of("a", tokens=2):
            pass


async def test_what_is_due_sooner_is_done_sooner(autojump_clock: MockClock) -> None:
    """A key may wait for its next start and for a withheld token at once."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 10, each=2, every=5)
        calls = Calls(shared, nursery)
        with pytest.raises(Overloaded):
            async with shared.of("a"):
                await calls.make("a", 2)
                raise Overloaded(1)
        await trio.sleep(30)
    assert len(calls.begun) == 2
    assert shared.limiter.decisions[-1].reason is Reason.RESUMED


async def test_without_a_limit_of_keys_a_refusal_costs_the_limiter_a_token(
    autojump_clock: MockClock,
) -> None:
    """A refusal withholds a token of the limiter, as without keys."""
    async with open_turnstile() as turnstile:
        shared = turnstile.shared("hosts", 10)
        with pytest.raises(Overloaded):
            async with shared.of("a"):
                raise Overloaded(30)
        assert shared.limiter.total_tokens == 9


async def test_each_key_adapts_by_itself(autojump_clock: MockClock) -> None:
    """The policy of a key learns from its calls alone, and may go below the limit of keys."""
    policies: dict[Any, Halving] = {}

    def make(key: Hashable) -> Halving:
        policies[key] = Halving(limit=4)
        return policies[key]

    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        of_all = Halving(limit=100)
        shared = turnstile.shared("hosts", 50, each=8, adapt=make, policy=of_all)
        calls = Calls(shared, nursery)
        await calls.make("a", 10)
        await calls.make("b", 10)
        assert calls.running == {"a": 4, "b": 4}
        with pytest.raises(Overloaded):
            async with shared.of("a"):
                raise Overloaded
        await trio.sleep(5)
        assert policies["a"].limit == 2
        assert policies["b"].limit == 4
        assert {k.key: k.limit for k in shared.statistics().busiest} == {}
        calls.most.clear()
        await calls.make("a", 5)
        await calls.make(None, 9)
        await trio.sleep(5)
        assert calls.most == {"a": 2, None: 9}
        shared.set("a", limit=1)
        await calls.make("a", 2)
        assert calls.running == {"a": 1, "b": 0, None: 0}
    assert len(policies["a"].samples) == 18
    assert len(of_all.samples) == 37
    assert None not in policies
    assert max(in_flight for _, in_flight, _ in policies["a"].ticks) == 4


# ---- what is remembered ----


async def test_idle_keys_are_forgotten(autojump_clock: MockClock) -> None:
    """Any number of keys may come one after the other; a portion still works after that."""
    async with open_turnstile() as turnstile:
        shared = turnstile.shared("hosts", 10, each=1)
        first = shared.of(0)
        for key in range(10_000):
            async with shared.of(key):
                pass
        assert shared.statistics().known <= 2000
        async with first:
            with pytest.raises(trio.WouldBlock):
                shared.of(0).acquire_on_behalf_of_nowait("other")


async def test_what_matters_of_a_key_is_kept(autojump_clock: MockClock) -> None:
    """The next start, the withheld tokens and the limit of the key are kept."""
    async with open_turnstile() as turnstile:
        shared = turnstile.shared("hosts", 10, each=1, every=20)
        refused = turnstile.shared("refused", 10, each=1)
        shared.set("set", limit=2)
        for name in ("a", "set"):
            async with shared.of(name):
                pass
        with pytest.raises(Overloaded):
            async with refused.of("a"):
                raise Overloaded(20)
        for key in range(3000):
            for limiter in (shared, refused):
                limiter.of(key)
        for limiter in (shared, refused):
            with pytest.raises(trio.WouldBlock):
                limiter.of("a").acquire_nowait()
        await trio.sleep(21)
        for key in range(3000, 9000):
            shared.of(key)
            refused.of(key)
        assert shared.statistics().known <= 3000
        async with shared.of("a"), refused.of("a"):
            shared.of("set", tokens=2).acquire_on_behalf_of_nowait("both")


async def test_what_policies_have_learned_is_kept_for_the_last_keys() -> None:
    """What policies learned is kept for the thousand keys that were used last."""
    made = Counter[Hashable]()

    def make(key: Hashable) -> Halving:
        made[key] += 1
        return Halving(limit=4)

    async with open_turnstile() as turnstile:
        shared = turnstile.shared("hosts", 10, adapt=make)
        for key in range(2100):
            async with shared.of(key):
                pass
        for key in (0, 2099):
            async with shared.of(key):
                pass
    assert (made[0], made[2099]) == (2, 1)


# ---- it stands before a limiter ----


async def test_whatever_moves_a_limiter_moves_this_one(autojump_clock: MockClock) -> None:
    """Signals, assignments and pauses move a shared limiter, while keys wait."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 8, each=4, throttle=Throttle(down=4, hold=0))
        calls = Calls(shared, nursery)
        assert turnstile.limiters["hosts"] is shared.limiter
        assert shared.name == "hosts"
        await calls.make("a", 50)
        await calls.make("b", 50)
        turnstile.down("hosts")
        await trio.sleep(1.5)
        assert sum(calls.running.values()) == 4
        shared.limiter.total_tokens = 6
        await wait_all_tasks_blocked()
        assert sum(calls.running.values()) == 6
        shared.limiter.pause()
        await trio.sleep(1.5)
        assert sum(calls.running.values()) == 0
        await shared.limiter.wait_idle()
        nursery.cancel_scope.cancel()


async def test_those_who_pass_by_the_keys_are_served_too(autojump_clock: MockClock) -> None:
    """Callers without a key are served at once if nobody waits, and otherwise like one more key."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared, passed = turnstile.shared("hosts", 1), list[float]()
        calls = Calls(shared, nursery)

        async def pass_by() -> None:
            async with shared.limiter:
                passed.append(trio.current_time())
                await trio.sleep(SECOND)

        begin = trio.current_time()
        nursery.start_soon(pass_by)
        await wait_all_tasks_blocked()
        nursery.start_soon(pass_by)
        await wait_all_tasks_blocked()
        await calls.make("a", 10)
        nursery.start_soon(pass_by)
        await trio.sleep(20)
    assert [time - begin for time in passed] == pytest.approx([0, 1, 3], abs=1)
    assert shared.limiter.borrowed_tokens == 0


async def test_closing_sends_all_away(autojump_clock: MockClock) -> None:
    """Calls that wait for their key and calls that wait for a token all get the error."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 2, each=1, every=5)

        async def ask(key: str) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await shared.of(key).acquire()

        await shared.of("a").acquire_on_behalf_of("x")
        await shared.of("b").acquire_on_behalf_of("y")
        for key in "aabcd":
            nursery.start_soon(ask, key)
        await wait_all_tasks_blocked()
        shared.limiter.close()
        await trio.sleep(10)
        with pytest.raises(trio.ClosedResourceError):
            shared.of("a").acquire_nowait()
        assert shared.limiter.borrowed_tokens == 2


async def test_too_many_who_wait_are_turned_away() -> None:
    """The waiting calls of all keys are counted together."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 1, max_waiting=2)
        calls = Calls(shared, nursery, seconds=math.inf)
        await calls.make("a", 2)
        await calls.make("b", 1)
        with pytest.raises(Saturated, match="2 callers waiting"):
            async with shared.of("c"):
                raise AssertionError
        nursery.cancel_scope.cancel()


async def test_statistics_are_summed_and_name_the_busiest() -> None:
    """Statistics have no entry per key, because there may be a million keys."""
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        shared = turnstile.shared("hosts", 20, each=2)
        calls = Calls(shared, nursery, seconds=math.inf)
        for key in range(8):
            await calls.make(key, key + 1)
        shared.of("idle")
        statistics = shared.statistics()
        assert (statistics.active, statistics.known) == (8, 9)
        assert statistics.limiter.borrowed_tokens == 15
        assert statistics.limiter.tasks_waiting == 36 - 15
        assert [key.key for key in statistics.busiest] == [7, 6, 5, 4, 3]
        busiest = statistics.busiest[0]
        assert (busiest.running, busiest.waiting) == (2, 6)
        assert (busiest.limit, busiest.weight) == (2, 1)
        assert repr(shared).startswith("<trio_turnstile.SharedLimiter of 9 keys, <trio_turn")
        assert repr(shared.of("k")) == (
            "<trio_turnstile.Portion of limiter 'hosts': 1 tokens for 'k'>"
        )
        nursery.cancel_scope.cancel()


def test_it_needs_a_turnstile() -> None:
    """Without a turnstile, no time passes for its keys."""
    with pytest.raises(RuntimeError, match="limiter 'hosts' is in no turnstile"):
        SharedLimiter(Limiter("hosts", 2), each=1)


@pytest.mark.parametrize(
    "options",
    [
        {"each": 0},
        {"each": 1.5},
        {"weight": 3},
        {"adapt": 3},
        {"every": -1},
        {"ageing": 0},
        {"ageing": "long"},
        {"rate": 3},
    ],
)
async def test_terms_that_cannot_be(options: dict[str, Any]) -> None:
    """Impossible terms are refused when the limiter is made."""
    async with open_turnstile() as turnstile:
        with pytest.raises((TypeError, ValueError)):
            turnstile.shared("hosts", 10, **options)


async def test_questions_that_cannot_be() -> None:
    """Impossible questions about a key are errors, and so are bad answers of user functions."""
    async with open_turnstile() as turnstile:
        shared = turnstile.shared("hosts", 10, each=lambda _: 0)
        with pytest.raises(ValueError, match="the limit of key 'a' must be"):
            shared.of("a")
        shared = turnstile.shared("hosts", 10, weight=lambda _: 0)
        with pytest.raises(ValueError, match="the weight of key 'a' must be"):
            shared.of("a")
        shared = turnstile.shared("hosts", 10)
        with pytest.raises(TypeError, match="unhashable"):
            shared.of([])  # type: ignore[arg-type]
        for wrong in ({"tokens": 0}, {"priority": 1.5}, {"priority": True}):
            with pytest.raises((TypeError, ValueError)):
                shared.of("a", **wrong)
        for wrong in ({"limit": 0}, {"weight": 0}):
            with pytest.raises(ValueError, match="must be"):
                shared.set("a", **wrong)
        with pytest.raises(TypeError, match="key must be a function"):
            shared.by("host")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="priority must be a function"):
            shared.by(str, priority=3)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="waiting must be"):
            shared.by(str, waiting=0)


# ---- any sequence ----

Act: TypeAlias = tuple[str, int, int]

ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.just("acquire"), st.integers(0, 3), st.integers(1, 3)),
        st.tuples(st.just("release"), st.integers(0), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0), st.just(0)),
        st.tuples(st.just("assign"), st.integers(0, 6), st.just(0)),
        st.tuples(st.just("set"), st.integers(0, 3), st.integers(1, 4)),
    ),
    max_size=40,
)


@attrs.define
class Sequence:
    """A shared limiter, and the rules that must hold after any act."""

    shared: SharedLimiter
    nursery: trio.Nursery
    limits: dict[int, int] = attrs.field(factory=lambda: dict.fromkeys(range(4), 3))
    holders: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    waiting: dict[int, tuple[int, int, trio.CancelScope]] = attrs.field(factory=dict)
    born: int = 0
    told: int = 0

    async def do(self, act: str, value: int, other: int) -> None:
        getattr(self, act)(value, other)
        await wait_all_tasks_blocked()
        self.check()

    def acquire(self, key: int, width: int) -> None:
        self.born += 1
        self.nursery.start_soon(self._acquire, self.born, key, width)

    async def _acquire(self, borrower: int, key: int, width: int) -> None:
        with trio.CancelScope() as scope:
            self.waiting[borrower] = key, width, scope
            try:
                way = self.shared.of(key, tokens=width, priority=borrower % 2)
                await way.acquire_on_behalf_of(borrower)
            except TooWide:
                self.told += 1
            else:
                self.holders[borrower] = key, width
            finally:
                del self.waiting[borrower]

    def release(self, value: int, _: int) -> None:
        if self.holders:
            borrower = list(self.holders)[value % len(self.holders)]
            del self.holders[borrower]
            self.shared.limiter.release_on_behalf_of(borrower)

    def cancel(self, value: int, _: int) -> None:
        if self.waiting:
            list(self.waiting.values())[value % len(self.waiting)][2].cancel()

    def assign(self, value: int, _: int) -> None:
        self.shared.limiter.total_tokens = value

    def set(self, key: int, limit: int) -> None:
        self.shared.set(key, limit=limit)
        self.limits[key] = limit

    def held(self, key: int) -> int:
        return sum(width for of, width in self.holders.values() if of == key)

    def check(self) -> None:
        limiter = self.shared.limiter
        held = sum(width for _, width in self.holders.values())
        assert limiter.borrowed_tokens == held
        assert set(limiter.statistics().borrowers) == self.holders.keys()
        assert limiter.statistics().tasks_waiting == len(self.waiting)
        statistics = {each.key: each for each in self.shared.statistics().busiest}
        for key in range(4):
            waiting = [of for of, *_ in self.waiting.values()].count(key)
            if self.held(key) or waiting:
                assert statistics[key].running == self.held(key)
                assert statistics[key].waiting == waiting
        # Nobody waits who could be served: this means the first of a key, if its width is 1.
        free = limiter.total_tokens - held
        firsts = dict[tuple[int, int], int]()
        for borrower, (key, width, _) in self.waiting.items():
            assert not 0 < limiter.total_tokens < width
            assert width <= self.limits[key]
            firsts.setdefault((key, borrower % 2), width)
        fitting = [w for (key, _), w in firsts.items() if self.held(key) + w <= self.limits[key]]
        if fitting and free > 0:
            assert max(fitting) > free, "a token is free, and somebody could have it"

    async def end(self) -> None:
        self.assign(6, 0)
        while self.waiting or self.holders:
            await wait_all_tasks_blocked()
            self.check()
            assert self.holders, "all wait for each other"
            self.release(0, 0)
        assert self.shared.statistics().active == 0


@given(ACTS)
@example(
    [
        *(("acquire", key, width) for key, width in ((0, 3), (1, 1), (3, 1), (1, 3))),
        ("assign", 0, 0),
        ("release", 0, 0),
        ("acquire", 1, 1),
        ("cancel", 0, 0),
    ]
)
@settings(deadline=None)
def test_any_sequence_keeps_all_limits_and_leaves_no_token_unused(acts: list[Act]) -> None:
    """The limits hold whoever comes, goes or gives up; and at the end nothing is left."""

    async def main() -> None:
        async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
            shared = turnstile.shared("x", 6, each=3, throttle=Throttle(min=0))
            sequence = Sequence(shared, nursery)
            for act in acts:
                await sequence.do(*act)
            await sequence.end()

    trio.run(main)


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_cancelling_at_any_moment_gives_all_tokens_back(data: st.DataObject) -> None:
    """Cancelled calls give back all: those that run, that wait, and that were just served."""
    seconds = data.draw(st.lists(st.integers(0, 12).map(lambda n: n / 4), min_size=12, max_size=12))

    async def call(shared: SharedLimiter, key: int, until: float) -> None:
        with trio.move_on_after(until):
            async with shared.of(key % 3, tokens=1 + key % 2):
                await trio.sleep(1)

    async def main() -> None:
        async with open_turnstile() as turnstile:
            shared = turnstile.shared("x", 3, each=2, every=0.5)
            async with trio.open_nursery() as nursery:
                for key, until in enumerate(seconds):
                    nursery.start_soon(call, shared, key, until)
            statistics = shared.statistics()
            assert statistics.active == statistics.limiter.borrowed_tokens == 0
            assert statistics.limiter.tasks_waiting == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
