"""`RetryBudget`: how many retries a step can afford. Sans-I/O.

In an outage every item fails and is tried again, and soon all of them have used up their
tries. The items of a step share a retry budget: each retry costs one, each success earns a
part of one, and a little comes in with time. When the budget is empty, items wait for it,
and so keep their tries until something succeeds again.
"""

from __future__ import annotations

import math
from typing import final

import attrs

from trio_turnstile._util import check_number, number


def _retries(_: object, field: attrs.Attribute[float], value: float) -> None:
    check_number(field.name, value, positive=True)
    if value < 1:
        raise ValueError(f"retries must be at least 1, or no retry could be made, not {value!r}")


@final
@attrs.frozen(kw_only=True)
class RetryBudget:
    """How many retries the items of a step may make together."""

    retries: float = attrs.field(default=10.0, validator=_retries)
    """The most retries that can be saved up, and the number at the start."""
    per_success: float = attrs.field(default=0.2, validator=number(positive=True))
    """How much of a retry each successful item earns."""
    per_second: float = attrs.field(default=1.0, validator=number(positive=True))
    """How many retries come in each second, so that some item always tries."""
    shared: bool = False
    """Whether all steps that have this object share it, for example as they call one service.

    If not, each step has a budget of its own. The successes of a step are paid in when one of its
    items has to be tried again.
    """


@final
class RetryBalance:
    """What is left of a budget."""

    def __init__(self, budget: RetryBudget) -> None:
        self._budget = budget
        self._left = budget.retries
        self._now = -math.inf
        self._enough_at = math.inf
        self._successes = 0

    def withdraw(self, now: float, successes: int) -> float:
        """Withdraw one retry, if there is enough.

        Args:
          now: the time, in seconds.
          successes: how many items have succeeded so far.

        Returns:
          0 if it was withdrawn, else the seconds after which to ask again.
        """
        budget = self._budget
        earned = (successes - self._successes) * budget.per_success
        came_in = (now - self._now) * budget.per_second  # infinite the first time
        self._left = min(self._left + earned + came_in, budget.retries)
        self._now, self._successes = now, successes
        if self._left < 1 and now < self._enough_at:
            self._enough_at = now + (1 - self._left) / budget.per_second
            if self._enough_at > now:
                return self._enough_at - now
        # Enough, or so nearly enough that rounding would make the rest of the wait 0.
        self._left = max(0.0, self._left - 1)
        self._enough_at = math.inf
        return 0.0
