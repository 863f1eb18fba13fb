"""`Purse`: what is left of a retry budget that several calls or steps share."""

from __future__ import annotations

import weakref
from typing import final

import trio

from .budget import RetryBalance, RetryBudget


@final
class Purse:
    """What is left of a budget, and how many of the calls that share it have succeeded."""

    def __init__(self, budget: RetryBudget) -> None:
        self.successes = 0
        self._balance = RetryBalance(budget)

    def withdraw(self, now: float) -> float:
        """Withdraw one retry; or return the seconds after which there may be enough."""
        return self._balance.withdraw(now, self.successes)


_PURSES = trio.lowlevel.RunVar[dict[int, Purse]]("trio_turnstile purses")
"""By the identity of the budget: two that are merely equal belong to different services."""


def purse_of(budget: RetryBudget) -> Purse:
    """Return the purse of this budget object in the present trio run."""
    try:
        purses = _PURSES.get()
    except LookupError:  # one for each run, because a balance uses the clock of its run
        purses = {}
        _PURSES.set(purses)
    if id(budget) not in purses:
        purses[id(budget)] = Purse(budget)
        weakref.finalize(budget, purses.pop, id(budget)).atexit = False
    return purses[id(budget)]
