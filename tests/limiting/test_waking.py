"""What wakes the throttle task."""

from __future__ import annotations

import math

import trio
from trio.testing import MockClock

from trio_turnstile import Limiter, open_turnstile


class Member:
    """A member that counts how often it is visited."""

    visits = 0

    def tick(self, now: float) -> float:
        """Count a visit; nothing else is due later."""
        self.visits += 1
        return math.inf


async def test_what_belongs_to_a_limiter_is_visited_in_a_turnstile_only(
    autojump_clock: MockClock,
) -> None:
    """Without a turnstile there is nobody to visit it."""
    member = Member()
    Limiter("alone", 1)._actuator.wake_with(member)
    async with open_turnstile() as turnstile:
        turnstile.limiter("api", 1)._actuator.wake_with(member)
        await trio.sleep(1)
    assert member.visits == 1
