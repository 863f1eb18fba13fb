"""What items wait for before they begin: a rate, or the cost of each item.

Without a cost, each item counts for one. Otherwise the item is asked for its cost, which is taken
from all the rates at once. While the item is worked on, `Budget.settle` corrects what was taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, cast, final

import attrs
import trio

from trio_turnstile._limiting.budget import (
    Budget,
    in_hand,
    needs_of,
    spend,
    spend_nowait,
)
from trio_turnstile._limiting.meter import Need, seconds_until
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._texts import shown
from trio_turnstile._util import check_instance

from .slot import Slot, surrounding_slot
from .toll import Toll

Cost: TypeAlias = Callable[[Any], float | Mapping[str, float]]
"""What an item costs: a number for a rate, or the amounts of a budget by name."""

Refuse: TypeAlias = Callable[[Exception, Any, Slot], Awaitable[bool]]
"""Ends an item whose cost cannot be paid; or returns true if the item is handled nevertheless."""


class Pace(Protocol):
    """What items wait for, one by one."""

    def enter_nowait(self, item: Any, slot: Slot) -> bool:
        """Return whether the item may begin now."""
        ...

    async def enter(self, item: Any, slot: Slot) -> bool:
        """Wait until the item may begin; return whether it is handled at all.

        If it is not, ``slot.fate`` has been set.
        """
        ...

    async def again(self, item: Any, slot: Slot) -> None:
        """Wait until another attempt may be made."""
        ...

    def leave(self, slot: Slot) -> None:
        """Give back what was taken, if it was not used for an attempt."""
        ...


def check_rate(rate: RateLimiter | Budget | None, cost: Cost | None) -> None:
    """Raise `TypeError` unless the options fit each other."""
    if isinstance(rate, Budget):
        if cost is None:
            raise TypeError(
                "a budget needs the cost of an item: give cost, a function of an item such as "
                "lambda item: {'requests': 1, 'tokens': len(item)}"
            )
    elif rate is not None:
        check_instance("rate", rate, RateLimiter, "RateLimiter(10)")
    if cost is not None and not callable(cost):
        raise TypeError(f"cost must be a function of an item, such as len, not {shown(cost)}")
    if cost is not None and rate is None:
        raise TypeError("cost is what an item takes of a rate: give the rate as well")


def make_pace(rate: RateLimiter | Budget | None, cost: Cost | None, refuse: Refuse) -> Pace | None:
    """Return what items wait for, if they wait for anything."""
    if rate is None:
        return None
    if cost is None:
        assert isinstance(rate, RateLimiter)
        return _EvenPace(rate)
    if isinstance(rate, Budget):
        return _CostPace(rate, cost, refuse)
    return _CostPace(
        Budget(amount=rate), lambda item: {"amount": cast("float", cost(item))}, refuse
    )


@final
@attrs.frozen(eq=False)
class _EvenPace:
    """Each item counts for one."""

    _rate: RateLimiter

    def enter_nowait(self, item: object, slot: Slot) -> bool:
        try:
            self._rate.acquire_nowait()
        except trio.WouldBlock:
            return False
        return True

    async def enter(self, item: object, slot: Slot) -> bool:
        await self._rate.acquire()
        return True

    async def again(self, item: object, slot: Slot) -> None:
        await self._rate.acquire()

    def leave(self, slot: Slot) -> None:
        """Give nothing back: an item that has passed counts."""


@final
@attrs.frozen(eq=False)
class _CostPace:
    """Each item has a cost."""

    budget: Budget
    _cost: Cost
    _refuse: Refuse

    def enter_nowait(self, item: object, slot: Slot) -> bool:
        slot.toll = toll = Toll()
        try:
            toll.needs = self._needs(item)
        except Exception as error:
            toll.error = error
            return False
        if seconds_until([*toll.needs.values()]):
            return False
        toll.spending = spend_nowait(self.budget, toll.needs)
        return True

    async def enter(self, item: object, slot: Slot) -> bool:
        toll = slot.toll
        assert toll is not None
        if toll.error is not None:
            return await self._refuse(toll.error, item, slot)
        await self._pay(toll)
        return True

    async def again(self, item: object, slot: Slot) -> None:
        toll = slot.toll
        assert toll is not None
        _give_back(toll)  # paid for an attempt that was not made, because it got no tokens
        with suppress(Exception):  # then the cost of the first attempt counts
            toll.needs = self._needs(item)
        await self._pay(toll)

    async def _pay(self, toll: Toll) -> None:
        wait = seconds_until([*toll.needs.values()])
        if wait:
            toll.spending = await spend(self.budget, toll.needs, wait)
        else:
            toll.spending = spend_nowait(self.budget, toll.needs)
            await trio.lowlevel.cancel_shielded_checkpoint()

    def leave(self, slot: Slot) -> None:
        toll, slot.toll = slot.toll, None
        if toll is not None:
            _give_back(toll)

    def _needs(self, item: object) -> Mapping[str, Need]:
        amounts = self._cost(item)
        if not isinstance(amounts, Mapping):
            raise TypeError(
                "cost must return the amounts by name, such as {'requests': 1}, "
                f"not {shown(amounts)}"
            )
        return needs_of(self.budget, amounts)


def _give_back(toll: Toll) -> None:
    spending, toll.spending = toll.spending, None
    if spending is not None:
        spending.cancel()
        spending.close()


def paid(
    function: Callable[..., Awaitable[Any]], pace: Pace | None
) -> Callable[..., Awaitable[Any]]:
    """Return ``function``; or, if it costs something, one that uses up what was paid for it."""
    if not isinstance(pace, _CostPace):
        return function
    budget = pace.budget

    async def call(*args: Any) -> Any:
        toll = surrounding_slot().toll
        assert toll is not None
        assert toll.spending is not None
        spending, toll.spending = toll.spending, None
        with in_hand(budget, spending):
            return await function(*args)

    return call
