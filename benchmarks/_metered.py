"""A metered service, and calls whose cost is known only at their end. Sans-I/O.

The service has a bucket of tokens, 90,000 per minute. It admits a call if the bucket has enough
tokens for the prompt. It takes these tokens at once, and those for the response at the end of the
call. Nobody knows the length of a response beforehand.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence

import attrs


@attrs.frozen
class Call:
    """One call: what it costs, and how long it takes."""

    prompt: int
    response: int

    @property
    def cost(self) -> int:
        """All of its tokens."""
        return self.prompt + self.response

    @property
    def seconds(self) -> float:
        """How long it takes: one second, and then a second for each 50 tokens."""
        return 1 + self.response / 50


def make_calls(number: int, *, growth: float = 1.0, seed: int = 1) -> Sequence[Call]:
    """Return calls with prompts that grow evenly, by the factor ``growth`` from first to last."""
    rng = random.Random(f"metered/{seed}")
    calls = list[Call]()
    for place in range(number):
        scale = 1 + (growth - 1) * place / number
        prompt = round(rng.lognormvariate(6.7, 0.9) * scale)
        response = round(min(1000, rng.lognormvariate(5.4, 0.6)))
        calls.append(Call(min(prompt, 20_000), response))
    return calls


@attrs.define
class Service:
    """The service. Times are in seconds of the service, which may differ from those of the clock.

    Args:
      limit: the size of its bucket, and the number of tokens that it gives per minute.
      halves_at: when the limit is cut to half.
    """

    limit: float = 90_000.0
    halves_at: float = math.inf
    refused: int = 0
    served: int = 0
    spent: float = 0.0
    given: float = 0.0
    """How many tokens were available: the bucket at the start, and all that were added."""
    _level: float = 0.0
    _now: float = -1.0

    def admit(self, call: Call, now: float) -> float:
        """Return 0 if the call is admitted, else the seconds after which to try again."""
        self._refill(now)
        if self._level < call.prompt:
            self.refused += 1
            return (call.prompt - self._level) * 60 / self.limit
        self._charge(call.prompt)
        return 0.0

    def finish(self, call: Call, now: float) -> None:
        """Charge the response of a call that ends."""
        self._refill(now)
        self._charge(call.response)
        self.served += 1

    def headers(self, retry_after: float = 0.0) -> dict[str, str]:
        """Return the headers about its bucket, as if its seconds were those of the clock."""
        left = max(0.0, self._level)
        reset = (self.limit - left) * 60 / self.limit
        told = {
            "x-ratelimit-limit-tokens": f"{self.limit:.0f}",
            "x-ratelimit-remaining-tokens": f"{left:.0f}",
            "x-ratelimit-reset-tokens": f"{reset:.3f}s",
        }
        return {**told, "retry-after-ms": f"{retry_after * 1000:.0f}"} if retry_after else told

    def _charge(self, tokens: float) -> None:
        self._level -= tokens
        self.spent += tokens

    def _refill(self, now: float) -> None:
        if self._now < 0:
            self._now, self._level, self.given = now, self.limit, self.limit
        if self._now < self.halves_at <= now:
            self._fill(self.halves_at)
            self.limit /= 2
        self._fill(now)

    def _fill(self, now: float) -> None:
        came_in = (now - self._now) * self.limit / 60
        self.given += came_in
        self._level, self._now = min(self.limit, self._level + came_in), now


@attrs.define
class Mean:
    """A running mean of the cost of about the last 50 calls."""

    value: float

    def add(self, value: float) -> None:
        """Take one more into account."""
        self.value += (value - self.value) / 50


@attrs.define
class Recent:
    """The costs of the last hundred calls."""

    _costs: deque[float] = attrs.field(factory=lambda: deque([4000.0], 100))

    def add(self, cost: float) -> None:
        """Take one more into account."""
        self._costs.append(cost)

    @property
    def high(self) -> float:
        """The cost that nine of ten of these calls did not exceed."""
        return sorted(self._costs)[len(self._costs) * 9 // 10]
