"""`Allowance`: an amount that is spent for good, such as money."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import final

from trio_turnstile._util import check_number

from .kept_debt import KeptDebt
from .meter import Line, wake_first
from .trio_runs import LastRun


@final
class BudgetSpent(Exception):
    """A call can never be paid for: an `Allowance` does not have that much left.

    It is raised at once. A run that paces its items by a budget with this allowance stops: it
    takes no more items, lets those in flight finish, and raises this in an `Aborted`. The item
    that could not be paid for counts as cancelled, so a later run with a ledger does it.

    Args:
      asked: how much was asked for.
      left: how much is left.
      amount: the allowance.
    """

    def __init__(self, asked: float, left: float, amount: float) -> None:
        super().__init__(asked, left, amount)
        self.asked = asked
        self.left = left
        self.amount = amount

    def __str__(self) -> str:
        return (
            f"the allowance is spent: {self.left:g} of {self.amount:g} is left, and "
            f"{self.asked:g} was asked for. Raise its amount to go on"
        )


@final
class Allowance:
    """An amount that is spent for good, such as money, for a `Budget`.

    Unlike with a rate, nothing comes back with time. A call that asks for more than is left waits
    only while other calls may still give some back. Otherwise it gets `BudgetSpent`.

    Args:
      amount: how much may be spent in all. It may be changed at any time.
      kept_in: a file that keeps what is spent from one process to the next. Only one process at
        a time may use it.

    Raises:
      TypeError, ValueError: if the amount is negative or not a number, or if the file holds
        something else.
    """

    __slots__ = ("_meter",)

    def __init__(self, amount: float, *, kept_in: str | os.PathLike[str] | None = None) -> None:
        check_number("amount", amount)
        kept = None if kept_in is None else KeptDebt(kept_in, 0.0)
        self._meter = AllowanceMeter(self, amount, kept)

    def __repr__(self) -> str:
        return f"<trio_turnstile.Allowance {self.spent:g} of {self.amount:g} spent>"

    @property
    def amount(self) -> float:
        """How much may be spent in all. Assign to change it."""
        return self._meter.amount

    @amount.setter
    def amount(self, amount: float) -> None:
        check_number("amount", amount)
        self._meter.amount = amount
        wake_first(self._meter.line)

    @property
    def spent(self) -> float:
        """How much is spent, including what calls in flight have reserved."""
        return self._meter.spent


@final
class AllowanceMeter:
    """How much of one allowance is spent."""

    __slots__ = ("_kept", "_owner", "_reserved", "_run", "amount", "line", "spent")

    def __init__(self, owner: object, amount: float, kept: KeptDebt | None) -> None:
        self.amount = amount
        self.spent = 0.0 if kept is None else kept.read(0.0)
        self.line: Line = OrderedDict()
        self._owner = owner
        self._kept = kept
        self._reserved = 0.0
        self._run = LastRun()

    def check(self, name: str, amount: float) -> None:
        """Raise `TypeError` or `ValueError` unless it is an amount."""
        check_number(name, amount)

    def until(self, amount: float) -> float:
        """Return 0 if the amount may be spent now, and infinity if others may give some back.

        Raises:
          BudgetSpent: if the amount can never be spent.
        """
        if self._run.has_changed(self._owner):
            self.line.clear()
            self._reserved = 0.0
        left = self.amount - self.spent
        rounding = 1e-9 * self.amount
        if amount > left + self._reserved + rounding:
            raise BudgetSpent(amount, left, self.amount)
        if amount > left + rounding:
            return float("inf")
        self._keep(self.spent + amount)
        return 0.0

    def take(self, amount: float) -> float:
        """Spend the amount, until the call says what it has really spent."""
        self.spent += amount
        self._reserved += amount
        return 0.0

    def give_back(self, amount: float, mark: float) -> None:
        """Give back some of what was taken; a negative amount spends more."""
        self._keep(self.spent - amount)
        self.spent -= amount
        self._reserved -= amount
        wake_first(self.line)

    def close(self, amount: float) -> None:
        """Note that nothing of this amount will be given back any more."""
        self._reserved -= amount
        wake_first(self.line)

    def _keep(self, spent: float) -> None:
        if self._kept is not None:
            self._kept.cover(spent, self.amount)


def allowance_meter(allowance: Allowance) -> AllowanceMeter:
    """Return the meter of an allowance."""
    return allowance._meter
