"""`Limiter`: a policy is consulted and followed."""

from __future__ import annotations

import trio
from trio.testing import (
    MockClock,
    wait_all_tasks_blocked,
)

from testkit.limiters import Proposal
from trio_turnstile import (
    Limiter,
    Reason,
    open_turnstile,
)


async def test_a_policy_is_called_with_the_state_and_followed(autojump_clock: MockClock) -> None:
    """A policy is called about ten times a second, from the moment the limiter joins."""
    policy = Proposal(1.0)
    api = Limiter("api", 10, policy=policy)
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api.acquire_on_behalf_of_nowait("holder")
        nursery.start_soon(api.acquire_on_behalf_of, "waiter")
        await wait_all_tasks_blocked()
        turnstile.add(api)
        await trio.sleep(0.95)
        assert [tick[1:] for tick in policy.ticks] == [(1, 1)] * 10
        policy.limit = 2.5
        await trio.sleep(0.1)
        assert (api.total_tokens, api.borrowed_tokens) == (2, 2)
        (decision,) = api.decisions
        assert (decision.reason, decision.evidence) == (
            Reason.POLICY,
            {"cap": 10, "proposed": 2.5},
        )


async def test_the_policy_of_a_limiter_that_joins_late_is_called_at_once(
    autojump_clock: MockClock,
) -> None:
    """The throttle task wakes up, although it had nothing to do before."""
    async with open_turnstile(sample_every=1000) as turnstile:
        await trio.sleep(50)
        policy = Proposal(5.0)
        turnstile.add(Limiter("api", 10, policy=policy))
        await wait_all_tasks_blocked()
        assert policy.ticks == [(50, 0, 0)]
