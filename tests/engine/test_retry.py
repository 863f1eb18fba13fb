"""`retry`: one call under error policies."""

from __future__ import annotations

import gc
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints

from testkit.limiters import Proposal, free
from trio_turnstile import (
    Abort,
    ConcurrentError,
    DeadLetter,
    ErrorPolicy,
    Halt,
    Limiter,
    Log,
    Overloaded,
    Retry,
    RetryBudget,
    RetryIn,
    Saturated,
    Skip,
    Verdict,
    retry,
)
from trio_turnstile.limits import Outcome
from trio_turnstile.testing import no_backoff


def fails(*errors: Exception) -> Callable[[], Awaitable[str]]:
    """Return a function that raises one error at each call, and then succeeds."""
    left = list(errors)

    async def call() -> str:
        await trio.lowlevel.checkpoint()
        if left:
            raise left.pop(0)
        return "done"

    return call


def every(seconds: float, times: int = 9, budget: RetryBudget | None = None) -> Retry:
    return Retry(times, backoff=lambda failures: seconds, budget=budget)


async def test_it_returns_what_the_function_returns() -> None:
    """Arguments are passed on, and no policy is needed for a call that succeeds."""

    async def join(one: str, other: str, *, by: str = " ") -> str:
        await trio.lowlevel.checkpoint()
        return one + by + other

    assert await retry(Retry(1), join, "a", "b") == "a b"
    assert await retry([], partial(join, "a", by="-"), "b") == "a-b"


async def test_it_tries_again_after_each_back_off(autojump_clock: MockClock) -> None:
    """The back-off is called with the number of failures so far."""
    policy = Retry(3, on=OSError, backoff=lambda failures: 10.0 * failures)
    assert await retry(policy, fails(OSError(), OSError())) == "done"
    assert trio.current_time() == 30


async def test_the_last_error_comes_out_as_it_is() -> None:
    """The error is not wrapped, and a note says how many attempts were made."""
    first, last = OSError("first"), OSError("last")
    with no_backoff(), pytest.raises(OSError, match="last") as caught:
        await retry(Retry(1), fails(first, last))
    assert caught.value is last
    assert last.__notes__ == ["attempts made: 2"]
    assert not hasattr(first, "__notes__")
    assert last.__cause__ is None


@pytest.mark.parametrize(
    "policy",
    [Skip(), Abort(), Halt("soon", fail=9), Log(), Retry(9, on=OSError)],
    ids=lambda policy: type(policy).__name__,
)
async def test_any_other_verdict_or_none_raises_the_error(policy: ErrorPolicy) -> None:
    """Without a verdict to retry, the caller gets the error, since no run could go on or stop."""
    with pytest.raises(ValueError, match="no") as caught:
        await retry(policy, fails(ValueError("no")))
    assert caught.value.__notes__ == ["attempts made: 1"]


async def test_no_dead_letter_is_sent() -> None:
    """No dead letter is sent: the caller gets the error, and nobody else does."""
    letters, dead = trio.open_memory_channel[ConcurrentError](9)
    with letters, dead:
        with pytest.raises(ValueError, match="no"):
            await retry(DeadLetter(letters), fails(ValueError("no")))
        assert dead.statistics().current_buffer_used == 0


async def test_policies_are_asked_in_order(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """`Log` logs each attempt by its number and the name of the function, and `Retry` decides."""
    caplog.set_level(logging.WARNING, "trio_turnstile")
    await retry([Log(), Retry(2)], fails(OSError(1), OSError(2)))
    assert caplog.messages == [
        "attempt 1: call failed: OSError(1)",
        "attempt 2: call failed: OSError(2)",
    ]


async def test_a_policy_learns_about_the_call() -> None:
    """The error has the arguments as its item, and the function as its phase."""
    seen: list[ConcurrentError] = []

    class Curious:
        def decide(self, error: ConcurrentError, /) -> Verdict | None:
            seen.append(error)
            return RetryIn(0) if error.attempt < 2 else None

    async def call(*numbers: int) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError

    with pytest.raises(OSError, match="attempts made: 2"):
        await retry(Curious(), call, 1, 2)
    assert [(error.item, error.phase, error.attempt) for error in seen] == [
        ((1, 2), "call", 1),
        ((1, 2), "call", 2),
    ]


async def test_a_policy_that_fails_decides_nothing() -> None:
    """The caller gets the error of the call, with a note about the policy."""

    class Broken:
        def decide(self, error: ConcurrentError, /) -> Verdict | None:
            raise ZeroDivisionError

    with pytest.raises(OSError, match="mine") as caught:
        await retry(Broken(), fails(OSError("mine")))
    assert caught.value.__notes__ == [
        "the error policies could not decide: ZeroDivisionError()",
        "attempts made: 1",
    ]


@pytest.mark.parametrize(
    ("policies", "function", "limiter", "message"),
    [
        (3, fails(), None, "policies must be an error policy or several.*not 3"),
        ([Skip], fails(), None, "policies must be an error policy or several.*not .*Skip"),
        (Retry(3), "fetch", None, "function must be an async function, not 'fetch': give its"),
        (Retry(3), fails(), 3, "limiter must be a Limiter or a trio.CapacityLimiter.*not 3"),
        (Retry(3), fails(), Limiter, "limiter must be a Limiter or .*not .*Limiter"),
    ],
)
async def test_wrong_arguments_are_refused_before_any_attempt(
    policies: Any, function: Any, limiter: Any, message: str
) -> None:
    """Wrong arguments are not errors of the call, so no retry could help."""
    with pytest.raises(TypeError, match=message) as caught:
        await retry(policies, function, limiter=limiter)
    assert not hasattr(caught.value, "__notes__")


async def test_retry_after_is_waited_for(autojump_clock: MockClock) -> None:
    """An error that says when to come back is respected."""
    await retry(every(1), fails(Overloaded(retry_after=30)))
    assert trio.current_time() == 30


async def test_cancellation_is_no_error(autojump_clock: MockClock) -> None:
    """A timeout cuts the back-off short, without asking any policy."""
    with trio.move_on_after(5) as scope:
        await retry(every(60), fails(OSError()))
    assert scope.cancelled_caught
    assert trio.current_time() == 5


async def test_it_checkpoints() -> None:
    """`retry` is a checkpoint even if the function is not."""

    async def at_once() -> int:
        return 1

    with assert_checkpoints():
        assert await retry(Retry(1), at_once) == 1


# ---- limiters ----


@pytest.mark.parametrize("limiter", [free("api", 1), trio.CapacityLimiter(1)])
async def test_no_token_is_held_while_backing_off(
    autojump_clock: MockClock, limiter: Limiter | trio.CapacityLimiter
) -> None:
    """Another caller has the only token meanwhile; each attempt holds one."""

    async def other() -> None:
        await trio.sleep(1)
        async with limiter:
            await trio.sleep(4)

    async def call() -> float:
        assert limiter.borrowed_tokens == 1
        if trio.current_time() < 3:
            raise OSError
        return trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await retry(every(3), call, limiter=limiter) == 5
    assert limiter.borrowed_tokens == 0


async def test_an_adaptive_limit_learns_from_every_attempt() -> None:
    """The policy of the limiter sees each overload, even if a retry follows."""
    policy = Proposal()
    api = Limiter("api", 1, policy=policy)
    with no_backoff():
        await retry(Retry(1), fails(Overloaded()), limiter=api)
    assert policy.outcomes == [Outcome.OVERLOADED, Outcome.SUCCESS]


async def test_a_full_queue_is_an_error_of_the_attempt(autojump_clock: MockClock) -> None:
    """The policies judge `Saturated` too, because the call may come back later."""
    api = Limiter("api", 1, max_waiting=0)

    async def other(task_status: trio.TaskStatus[None]) -> None:
        async with api:
            task_status.started()
            await trio.sleep(2.5)

    async with trio.open_nursery() as nursery:
        await nursery.start(other)
        policy = Retry(9, on=Saturated, backoff=lambda failures: 1)
        assert await retry(policy, fails(), limiter=api) == "done"
    assert trio.current_time() == 3


# ---- budgets ----


async def fails_often(policy: Retry, times: int) -> float:
    """Return the duration of a call that fails a given number of times."""
    began = trio.current_time()
    await retry(policy, fails(*[OSError()] * times))
    return trio.current_time() - began


async def test_calls_share_a_budget(autojump_clock: MockClock) -> None:
    """A call has to wait for what another one has spent."""
    policy = every(0, 9, RetryBudget(retries=2, per_second=0.1, per_success=0.01))
    assert await fails_often(policy, 2) == 0
    assert await fails_often(policy, 1) == pytest.approx(9.9)  # a success has paid for the rest


async def test_successes_pay_in(autojump_clock: MockClock) -> None:
    """Calls that succeed earn retries for those that fail."""
    policy = every(0, 9, RetryBudget(retries=2, per_second=0.1, per_success=0.5))
    assert await fails_often(policy, 2) == 0
    for _ in range(3):
        await fails_often(policy, 0)
    assert await fails_often(policy, 2) == 0


async def test_equal_budgets_are_not_shared(autojump_clock: MockClock) -> None:
    """Two budgets with the same numbers are still two; a budget is forgotten when it is gone."""
    for _ in range(3):
        policy = every(0, 9, RetryBudget(retries=1, per_second=0.001, per_success=0.001))
        assert await fails_often(policy, 1) == 0
        del policy
        gc.collect()


def test_a_budget_is_full_in_the_next_run() -> None:
    """Each trio run has its own clock, so balances are not carried over."""
    policy = every(0, 9, RetryBudget(retries=1, per_second=0.001))
    for _ in range(2):
        clock = MockClock(autojump_threshold=0)
        assert trio.run(fails_often, policy, 1, clock=clock) == 0
