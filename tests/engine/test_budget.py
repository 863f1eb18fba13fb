"""Retry budgets: withdrawals and income."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_turnstile import Consumer, Producer, Retry, RetryBudget, Skip
from trio_turnstile._engine.budget import RetryBalance


@pytest.mark.parametrize(
    ("options", "error", "rule"),
    [
        ({"retries": 0.5}, ValueError, "retries must be at least 1, or no retry could be made"),
        ({"retries": 0}, ValueError, "retries must be more than 0, not 0"),
        ({"per_success": 0}, ValueError, "per_success must be more than 0, not 0"),
        ({"per_second": math.nan}, ValueError, "per_second must be more than 0, not nan"),
        ({"per_second": "1"}, TypeError, "per_second must be a number, not '1'"),
    ],
)
def test_wrong_amounts_say_which_rule_they_break(
    options: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """Each amount must be over 0, and the budget must allow one retry."""
    with pytest.raises(error, match=rule):
        RetryBudget(**options)


def test_what_is_saved_up_is_paid_at_once() -> None:
    """The first retries need not wait; later ones are earned with time."""
    balance = RetryBalance(RetryBudget(retries=2, per_second=0.5))
    assert [balance.withdraw(100, 0) for _ in range(3)] == [0, 0, 2]
    assert balance.withdraw(101, 0) == 1
    assert balance.withdraw(102, 0) == 0
    assert balance.withdraw(102, 0) == 2


def test_successes_earn_retries() -> None:
    """Each success earns its part of a retry, once."""
    balance = RetryBalance(RetryBudget(retries=1, per_success=0.25, per_second=0.5))
    assert balance.withdraw(0, 0) == 0
    assert balance.withdraw(0, 3) == 0.5
    assert balance.withdraw(0, 4) == 0
    assert balance.withdraw(0, 4) == 2


def test_no_more_is_saved_up_than_the_bound() -> None:
    """After a long quiet time no more than ``retries`` is saved up."""
    balance = RetryBalance(RetryBudget(retries=2))
    balance.withdraw(0, 0)
    assert [balance.withdraw(1e6, 10**6) for _ in range(3)] == [0, 0, 1]


@given(
    now=st.floats(0, 1e7),
    retries=st.floats(1, 10),
    per_second=st.floats(0.01, 1000),
    per_success=st.floats(0.01, 1),
    successes=st.lists(st.booleans(), min_size=1, max_size=30),
)
def test_who_waits_as_long_as_told_can_pay(
    now: float, retries: float, per_second: float, per_success: float, successes: list[bool]
) -> None:
    """After the wait that it asked for, a withdrawal succeeds in spite of rounding."""
    balance = RetryBalance(
        RetryBudget(retries=retries, per_success=per_success, per_second=per_second)
    )
    done = 0
    for success in successes:
        asked = 0
        while wait := balance.withdraw(now, done):
            now += wait
            asked += 1
            assert asked < 5
        done += success


def test_a_wait_that_is_lost_in_rounding_is_not_asked_for() -> None:
    """No wait is asked for that is shorter than the resolution of the clock."""
    balance = RetryBalance(RetryBudget(retries=1, per_second=1e6))
    assert [balance.withdraw(1e16, 0), balance.withdraw(1e16, 0)] == [0, 0]


@pytest.mark.parametrize("shared", [False, True])
async def test_steps_may_share_a_budget(shared: bool, autojump_clock: MockClock) -> None:
    """With a shared budget, two steps that fail make no more retries than one would."""
    retries = list[float]()

    async def call(item: int) -> int:
        retries.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        raise OSError("down")

    budget = RetryBudget(retries=5, per_second=0.001, shared=shared)
    again = [Retry(5, backoff=lambda _: 0.0, budget=budget), Skip()]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon((Producer(range(9)) | Consumer(call, on_error=again)).run)
        await wait_all_tasks_blocked()
        assert len(retries) == 18 + (5 if shared else 10)
        nursery.cancel_scope.cancel()


async def test_what_one_step_earns_another_may_spend(autojump_clock: MockClock) -> None:
    """The successes of all steps are paid in to a shared budget."""
    calls = list[int]()

    async def call(item: int) -> int:
        calls.append(item)
        await trio.lowlevel.checkpoint()
        if item < 0 and calls.count(item) == 1:
            raise OSError("down")
        return item

    budget = RetryBudget(retries=2, per_success=0.1, per_second=1e-6, shared=True)
    again = Retry(1, backoff=lambda _: 0.0, budget=budget)
    for items in ([-1], [-2], [*range(20), -3], [-4]):
        await (Producer(items) | Consumer(call, limiter=1, on_error=again)).run()
    assert trio.current_time() < 1
