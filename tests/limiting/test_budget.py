"""`Budget`: several rates at once, reserved with an estimate and settled with the actual cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_turnstile import Allowance, Budget, BudgetSpent, RateLimiter


def calls_and_tokens(calls: float = 1, tokens: float = 10) -> Budget:
    return Budget(calls=RateLimiter(calls, burst=5), tokens=RateLimiter(tokens, burst=100))


def available(budget: Budget) -> list[float]:
    return [each.available for each in budget.rates.values() if isinstance(each, RateLimiter)]


async def test_a_call_takes_of_all_rates(autojump_clock: MockClock) -> None:
    """A call waits for the slower rate, and needs nothing of a rate that is not named."""
    budget = calls_and_tokens()
    async with budget.reserve(calls=1, tokens=80) as spending:
        assert spending.amounts == {"calls": 1, "tokens": 80}
        assert available(budget) == [4, 20]
    async with budget.reserve(calls=1, tokens=60):
        assert trio.current_time() == 4
    async with budget.reserve(calls=2, tokens=0) as spending:
        assert trio.current_time() == 4
    assert repr(spending) == "<trio_turnstile.Spending {'calls': 2}>"
    assert repr(budget) == "<trio_turnstile.Budget calls, tokens>"


async def test_entering_always_checkpoints(autojump_clock: MockClock) -> None:
    """Entering is a checkpoint whether or not it has to wait; a cancelled task reserves nothing."""
    budget = calls_and_tokens()
    for _ in range(2):
        with assert_checkpoints():
            async with budget.reserve(tokens=100):
                pass
    with trio.CancelScope() as scope:
        scope.cancel()
        async with budget.reserve(calls=5):
            raise AssertionError
    assert available(budget)[0] == 5


async def test_who_waits_holds_nothing(autojump_clock: MockClock) -> None:
    """While a call waits for tokens, it takes nothing of the calls; cancelling it loses nothing."""
    budget = calls_and_tokens()
    async with budget.reserve(tokens=100):
        with trio.move_on_after(3):
            async with budget.reserve(calls=5, tokens=100):
                raise AssertionError
    assert available(budget) == [5, 30]


async def test_budgets_with_rates_in_common_never_wait_for_each_other(
    autojump_clock: MockClock,
) -> None:
    """Callers pass in the order in which they came, whatever order they name the rates in."""
    one, other = RateLimiter(1, burst=5), RateLimiter(1, burst=5)
    there, back, passed = Budget(a=one, b=other), Budget(b=other, a=one), list[int]()

    async def caller(number: int) -> None:
        budget = back if number % 2 else there
        async with budget.reserve(a=3 + number % 3, b=5 - number % 3):
            passed.append(number)
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(caller, number)
            await wait_all_tasks_blocked()
    assert passed == list(range(8))


async def test_what_was_too_much_lets_others_pass(autojump_clock: MockClock) -> None:
    """Settling below the estimate wakes a waiting call; a cost above it has to be paid off."""
    budget = calls_and_tokens()

    async def later() -> None:
        async with budget.reserve(tokens=50):
            assert trio.current_time() == 1

    async with trio.open_nursery() as nursery, budget.reserve(tokens=100) as spending:
        nursery.start_soon(later)
        await trio.sleep(1)
        spending.settle(tokens=60)
        assert spending.amounts == {"tokens": 60}
    async with budget.reserve(tokens=1) as spending:
        spending.settle(tokens=101)
    started = trio.current_time()
    async with budget.reserve(tokens=1):
        assert trio.current_time() - started == pytest.approx(10.1, abs=0.2)


async def test_what_was_not_estimated_can_be_settled() -> None:
    """A cost that shows only at the end is booked, and may be corrected after the block."""
    budget = calls_and_tokens()
    async with budget.reserve(calls=1) as spending:
        spending.settle(tokens=30, calls=2)
    assert available(budget)[1] == pytest.approx(70, abs=0.2)
    spending.settle(tokens=50)
    assert available(budget)[1] == pytest.approx(50, abs=0.2)


@pytest.mark.parametrize("error", [OSError, trio.Cancelled])
async def test_a_call_that_fails_costs_what_is_known(
    autojump_clock: MockClock, error: type[BaseException]
) -> None:
    """What was settled stays, and the rest counts as estimated, unless nothing was spent at all."""
    budget = calls_and_tokens()

    async def call(*, refused: bool) -> None:
        with trio.CancelScope() as scope:
            async with budget.reserve(calls=1, tokens=50) as spending:
                spending.settle(tokens=20)
                if refused:
                    spending.cancel()
                if error is OSError:
                    raise OSError
                scope.cancel()
                await trio.sleep_forever()

    with suppress(OSError):
        await call(refused=False)
    assert available(budget) == [4, 80]
    with suppress(OSError):
        await call(refused=True)
    assert available(budget) == [4, 80]


async def test_a_late_refund_gives_no_second_burst(autojump_clock: MockClock) -> None:
    """The part that the rate has paid off in the meantime is not given back as well."""
    budget = Budget(tokens=RateLimiter(10, burst=100))
    async with budget.reserve(tokens=100) as spending:
        await trio.sleep(8)
        async with budget.reserve(tokens=60):
            pass
        spending.settle(tokens=50)
    assert available(budget) == [40]


@pytest.mark.parametrize(
    ("amounts", "error", "message"),
    [
        ({"tokens": 101}, ValueError, "tokens must be at most the burst, which is 100, not 101"),
        ({"tokens": -1}, ValueError, "tokens must be 0 or more, not -1"),
        ({"tokens": "1"}, TypeError, "tokens must be a number, not '1'"),
        ({"points": 1}, TypeError, "Budget calls, tokens> has no rate 'points'"),
    ],
)
async def test_bad_amounts_are_named(
    amounts: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A bad amount fails before anything waits or is taken; more than the burst may be settled."""
    budget = calls_and_tokens()
    with pytest.raises(error, match=message):
        budget.reserve(calls=1, **amounts)
    async with budget.reserve(calls=1) as spending:
        if "burst" not in message:
            with pytest.raises(error, match=message):
                spending.settle(calls=0, **amounts)
    assert available(budget)[0] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(
    ("rates", "message"),
    [({}, "a budget needs a rate"), ({"tokens": 3}, "tokens must be a RateLimiter or an Allow")],
)
def test_a_budget_consists_of_rates(rates: dict[str, Any], message: str) -> None:
    """Anything but a rate is an error that says how to make one."""
    with pytest.raises(TypeError, match=message):
        Budget(**rates)


def test_settle_needs_a_call_in_hand() -> None:
    """Outside of a step there is no call that `settle` could mean."""
    with pytest.raises(RuntimeError, match="has no call in hand here: settle what reserve"):
        calls_and_tokens().settle(tokens=1)


# ---- what is spent for good ----


async def test_an_allowance_does_not_come_back(autojump_clock: MockClock) -> None:
    """A spent allowance raises at once; time changes nothing, but a larger amount does."""
    money = Allowance(1.0)
    budget = Budget(calls=RateLimiter(1, burst=5), dollars=money)
    async with budget.reserve(calls=1, dollars=0.9) as spending:
        spending.settle(dollars=0.8)
    await trio.sleep(1000)
    with pytest.raises(BudgetSpent, match=r"0\.2 of 1 is left, and 0.5 was asked for") as info:
        async with budget.reserve(calls=1, dollars=0.5):
            raise AssertionError
    assert (info.value.asked, info.value.amount) == (0.5, 1.0)
    assert available(budget) == [5]
    money.amount = 2
    async with budget.reserve(dollars=0.5):
        assert money.spent == pytest.approx(1.3)
    assert money.amount == 2
    assert repr(money) == "<trio_turnstile.Allowance 1.3 of 2 spent>"


async def test_who_may_still_be_given_something_waits(autojump_clock: MockClock) -> None:
    """A reserved allowance is not spent yet, so a caller waits until the others have settled."""
    money = Allowance(10)
    budget = Budget(dollars=money)
    ends = list[tuple[str, float]]()

    async def call(name: str, estimate: float, actual: float, seconds: float) -> None:
        try:
            async with budget.reserve(dollars=estimate) as spending:
                await trio.sleep(seconds)
                spending.settle(dollars=actual)
        except BudgetSpent:
            name += " refused"
        ends.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for name, estimate, actual in [("a", 9, 5), ("b", 4, 4), ("c", 2, 2)]:
            nursery.start_soon(call, name, estimate, actual, 10)
            await wait_all_tasks_blocked()
    assert sorted(ends) == [("a", 10), ("b", 20), ("c refused", 20)]
    assert money.spent == 9


async def test_a_cost_that_shows_afterwards_is_booked(autojump_clock: MockClock) -> None:
    """An allowance books what is settled after the block, even beyond its amount."""
    money = Allowance(10)
    async with Budget(dollars=money).reserve(dollars=1) as spending:
        pass
    spending.settle(dollars=12)
    assert money.spent == 12
    with pytest.raises(BudgetSpent):
        async with Budget(dollars=money).reserve(dollars=1):
            raise AssertionError


def test_an_allowance_survives_a_restart(tmp_path: Path) -> None:
    """Another run in another process finds the allowance as it was left."""
    path = tmp_path / "spent"
    money = Allowance(10, kept_in=path)

    async def call() -> None:
        async with Budget(dollars=money).reserve(dollars=4) as spending:
            spending.settle(dollars=3)

    trio.run(call)
    trio.run(call)
    assert Allowance(10, kept_in=path).spent == 6


@pytest.mark.parametrize("amount", [-1, math.nan])
def test_an_allowance_is_a_number(amount: float) -> None:
    """An allowance that is not a number is an error, also when it is assigned."""
    with pytest.raises(ValueError, match="amount must be 0 or more"):
        Allowance(amount)
    with pytest.raises(ValueError, match="amount must be 0 or more"):
        Allowance(1).amount = amount


# ---- properties ----

ONE = st.tuples(
    st.sampled_from(["ab", "ba", "a", "b"]),
    st.floats(0, 3),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0, 1),
    st.floats(0, 5),
    st.sampled_from(["settle", "fail", "cancel", "leave"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ONE, max_size=25))
def test_calls_of_several_rates_neither_hang_nor_overdraw(calls: Sequence[Any]) -> None:
    """All pass in the order in which they came, and what they spend stays within rate and burst."""

    async def main() -> None:
        rates = {"a": RateLimiter(1, burst=10), "b": RateLimiter(3, burst=10)}
        budget = Budget(**rates)
        spent: dict[str, list[tuple[float, float]]] = {"a": [], "b": []}
        order: dict[str, list[int]] = {"a": [], "b": []}
        waiting = set[int]()

        async def call(number: int, names: str, amounts: dict[str, float], plan: Any) -> None:
            share, seconds, act = plan
            asked = {name: amounts[name] for name in names}
            with trio.move_on_after(seconds if act == "leave" else math.inf):
                waiting.add(number)
                async with budget.reserve(**asked) as spending:
                    began = trio.current_time()
                    for name in spending.amounts:
                        order[name].append(number)
                    await trio.sleep(0 if act == "leave" else seconds)
                    if act in ("settle", "fail"):
                        spending.settle(**{name: share * asked[name] for name in asked})
                    if act == "cancel":
                        spending.cancel()
                    for name, amount in spending.amounts.items():
                        spent[name].append((began, amount))
            waiting.discard(number)

        async with trio.open_nursery() as nursery:
            for number, (names, pause, a, b, *plan) in enumerate(calls):
                await trio.sleep(pause)
                nursery.start_soon(call, number, names, {"a": a, "b": b}, plan)
                await wait_all_tasks_blocked()
        assert not waiting
        for name, rate in rates.items():
            assert order[name] == sorted(order[name])
            booked = sorted(spent[name])
            for first, (begin, _) in enumerate(booked):
                total = 0.0
                for now, amount in booked[first:]:
                    total += amount
                    assert total <= rate.per_second * (now - begin) + 10 + 1e-6
            await trio.sleep(1000)
            assert rate.available == 10

    trio.run(main, clock=MockClock(autojump_threshold=0))
