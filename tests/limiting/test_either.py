"""`Tokens`: both kinds of limiter look alike to the engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from testkit.limiters import Proposal
from trio_turnstile import Limiter, Overloaded, Saturated, Throttle, open_turnstile
from trio_turnstile._limiting.claims import ONE
from trio_turnstile._limiting.either import AnyLimiter, Tokens, as_limiter, tokens_of
from trio_turnstile.limits import Outcome

BOTH = pytest.mark.parametrize(
    "make",
    [lambda tokens: Limiter("api", tokens), trio.CapacityLimiter],
    ids=["Limiter", "trio.CapacityLimiter"],
)


@BOTH
async def test_a_token_is_borrowed_and_given_back(make: Callable[[int], AnyLimiter]) -> None:
    """Every way to acquire and every way to release works."""
    limiter = make(1)
    tokens = tokens_of(limiter)
    assert tokens.limiter is limiter
    releases: list[Callable[[object], None]] = [
        tokens.release,
        tokens.release_cancelled,
        lambda borrower: tokens.release_after(borrower, OSError()),
    ]
    for release in releases:
        tokens.acquire_nowait("first")
        assert (tokens.available_tokens, limiter.borrowed_tokens) == (0, 1)
        with pytest.raises(trio.WouldBlock):
            tokens.acquire_nowait("second")
        release("first")
        with assert_checkpoints():
            await tokens.acquire("second")
        release("second")
        assert (tokens.available_tokens, tokens.total_tokens) == (1, 1)


def test_a_number_of_tokens_becomes_a_limiter_and_a_limiter_stays() -> None:
    """Signals leave the new limiter one token."""
    made = as_limiter(3, "limiter", "work")
    assert isinstance(made, Limiter)
    assert (made.name, made.total_tokens, made.minimum) == ("work", 3, 1)
    for limiter in (made, trio.CapacityLimiter(1)):
        assert as_limiter(limiter, "limiter", "work") is limiter


def test_what_is_no_limiter_and_no_number_is_refused() -> None:
    """The error names the argument, the value and what to pass."""
    with pytest.raises(TypeError) as caught:
        as_limiter("3", "prepare_limiter", "work")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "prepare_limiter must be a Limiter, a trio.CapacityLimiter or a number of tokens, not '3'"
    )


@BOTH
async def test_to_wait_for_a_free_token_takes_a_turn_and_keeps_nothing(
    make: Callable[[int], AnyLimiter],
) -> None:
    """The waiter is in the queue; when the wait returns, the token is free again."""
    tokens = tokens_of(make(1))
    tokens.acquire_nowait("holder")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.wait_free, "foreman")
        await wait_all_tasks_blocked()
        assert tokens.limiter.statistics().tasks_waiting == 1
        tokens.release("holder")
    assert tokens.available_tokens == 1
    with assert_checkpoints():
        await tokens.wait_free("foreman")


async def test_a_wait_in_turn_ignores_max_waiting() -> None:
    """A stage holds back its source instead of being turned away, as other callers are."""
    limiter = Limiter("api", 1, max_waiting=0)
    tokens = tokens_of(limiter)
    tokens.acquire_nowait("holder")
    with pytest.raises(Saturated):
        await limiter.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.acquire, "worker")
        await wait_all_tasks_blocked()
        tokens.release("holder")
    assert limiter.statistics().borrowers == ["worker"]


def _call(tokens: Tokens, release: Callable[..., None], *error: BaseException) -> None:
    tokens.acquire_nowait("call")
    release("call", *error)


async def test_a_policy_learns_how_each_call_ended() -> None:
    """The policy sees successes and overloads, and ignores other errors and cancelled calls."""
    policy = Proposal()
    tokens = tokens_of(Limiter("api", 10, policy=policy))
    _call(tokens, tokens.release)
    _call(tokens, tokens.release_after, Overloaded())
    _call(tokens, tokens.release_after, KeyError())
    _call(tokens, tokens.release_cancelled)
    assert policy.outcomes == [
        Outcome.SUCCESS,
        Outcome.OVERLOADED,
        Outcome.IGNORED,
        Outcome.IGNORED,
    ]


async def test_a_policy_does_not_see_a_wait_for_a_free_token() -> None:
    """The wait for a free token is not a call, so the policy does not see it."""
    policy = Proposal()
    tokens = tokens_of(Limiter("api", 10, policy=policy))
    await tokens.wait_free("foreman")
    assert (policy.starts, policy.samples) == ([], [])


async def test_a_wait_for_a_free_token_ends_when_the_limiter_is_closed() -> None:
    """The wait returns without an error, and tokens look infinite: the next acquire raises."""
    limiter = Limiter("api", 0, throttle=Throttle(min=0))
    tokens = tokens_of(limiter)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.wait_free, "foreman")
        await wait_all_tasks_blocked()
        limiter.close()
    assert tokens.available_tokens == tokens.total_tokens == float("inf")
    with pytest.raises(trio.ClosedResourceError):
        tokens.acquire_nowait("worker")


async def test_an_overload_with_a_retry_after_withholds_the_token() -> None:
    """An overload withholds the token just as with ``async with``."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("api", 5)
        tokens = tokens_of(limiter)
        _call(tokens, tokens.release_after, Overloaded(retry_after=3))
        await wait_all_tasks_blocked()
        assert (limiter.total_tokens, limiter.statistics().withheld) == (4, 1)


def test_tokens_can_be_made_outside_of_a_run() -> None:
    """Outside of a run nobody can be using the tokens."""
    assert tokens_of(Limiter("api", 3)).total_tokens == 3


async def test_a_limiter_of_trio_gives_one_token_at_a_time() -> None:
    """A step that wants several tokens requires one of our limiters, so it never gets here."""
    tokens = tokens_of(trio.CapacityLimiter(2))
    with pytest.raises(NotImplementedError):
        tokens.take_nowait("me", ONE)
    with pytest.raises(NotImplementedError):
        await tokens.take("me", ONE)
