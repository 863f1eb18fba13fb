"""`Budget`: several rates at once, paid with an estimate and settled with the real cost.

A call of a metered service costs requests and tokens, or points, or money, and its cost is known
only at its end. So an estimate is reserved from all rates at once, and settled with the real cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from types import MappingProxyType, TracebackType
from typing import TypeAlias, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._texts import shown
from trio_turnstile._util import check_number

from .allowance import Allowance, AllowanceMeter, allowance_meter
from .meter import Metered, Need, seconds_until, take_in_turn
from .quota_headers import Headers, QuotaState, parse_rate_headers
from .rate import RateLimiter, meter_of, period_of

Rate: TypeAlias = RateLimiter | Allowance
"""What a budget consists of."""

_DAY = 86_400.0


@final
class Spending:
    """What one call has reserved from a budget, and what it has spent; made by `Budget.reserve`."""

    __slots__ = ("_budget", "_open", "_taken")

    def __init__(self, budget: Budget, taken: dict[str, _Taken]) -> None:
        self._budget = budget
        self._taken = taken
        self._open = True

    def __repr__(self) -> str:
        return f"<trio_turnstile.Spending {self.amounts}>"

    @property
    def amounts(self) -> dict[str, float]:
        """The amounts booked now: the estimates, or what the call was settled with."""
        return {name: taken.amount for name, taken in self._taken.items()}

    def settle(self, /, **actual: float) -> None:
        """Say what the call has really spent. If that is less than reserved, others pass sooner.

        It may be called more than once, for example while a response comes in. Amounts that are
        not named stay as estimated. If more was spent than estimated, the difference has to be
        paid off before others pass; this call does not wait for that.

        Raises:
          TypeError, ValueError: for a name that is not in the budget, or an amount that is
            negative or not a number.
        """
        meters = {name: _meter(self._budget, name) for name in actual}
        for name, amount in actual.items():
            check_number(name, amount)
        for name, amount in actual.items():
            taken = self._taken.get(name)
            if taken is None:
                taken = self._taken[name] = _Taken(meters[name], 0.0, 0.0)
            taken.meter.give_back(taken.amount - amount, taken.mark)
            taken.amount = amount
            if not self._open and isinstance(taken.meter, AllowanceMeter):
                taken.meter.close(amount)

    def cancel(self) -> None:
        """Give everything back, for a call that was not made or was refused: it spent nothing."""
        self.settle(**dict.fromkeys(self._taken, 0.0))

    def close(self) -> None:
        """Make the amounts booked now final."""
        self._open = False
        for taken in self._taken.values():
            if isinstance(taken.meter, AllowanceMeter):
                taken.meter.close(taken.amount)


@final
@attrs.define(eq=False)
class _Taken:
    """What was taken from one meter."""

    meter: Metered
    amount: float
    mark: float


@final
class Budget:
    """Several rates at once: a call takes from all of them, or waits and holds nothing.

    Pass a `RateLimiter` or an `Allowance` for each thing that a call costs, by any name::

        budget = Budget(
            requests=RateLimiter.per(500, seconds=60),
            tokens=RateLimiter.per(90_000, seconds=60),
            dollars=Allowance(20),
        )

        async with budget.reserve(requests=1, tokens=estimate, dollars=0.02) as spending:
            response = await call(...)
            spending.settle(tokens=response.tokens)
        budget.observe_headers(response.headers)

    A rate may be in several budgets, and may also be used on its own. Calls pass first come, first
    served: an expensive call is not overtaken by later ones that need one of its rates.

    Args:
      **rates: what the calls cost, by name.

    Raises:
      TypeError: if there is no rate, or one is neither a `RateLimiter` nor an `Allowance`.
    """

    __slots__ = ("_meters", "_rates")

    def __init__(self, /, **rates: Rate) -> None:
        if not rates:
            raise TypeError("a budget needs a rate, as in Budget(tokens=RateLimiter(100, 1000))")
        for name, rate in rates.items():
            if not isinstance(rate, RateLimiter | Allowance):
                raise TypeError(
                    f"{name} must be a RateLimiter or an Allowance, such as "
                    f"RateLimiter.per(90_000, seconds=60), not {shown(rate)}"
                )
        self._rates = rates
        self._meters: dict[str, Metered] = {
            name: meter_of(rate) if isinstance(rate, RateLimiter) else allowance_meter(rate)
            for name, rate in rates.items()
        }

    def __repr__(self) -> str:
        return f"<trio_turnstile.Budget {', '.join(self._rates)}>"

    @property
    def rates(self) -> Mapping[str, Rate]:
        """Its rates and allowances, by name."""
        return MappingProxyType(self._rates)

    def reserve(self, /, **amounts: float) -> AbstractAsyncContextManager[Spending]:
        """Return an async context manager that reserves these amounts, all or nothing.

        Entering it waits in turn until all of the amounts may pass; if cancelled meanwhile,
        nothing is used up. It returns the `Spending`, for the call to settle. However the block
        is left, settled amounts are final. Others count as estimated, because the service may
        have counted them; call `Spending.cancel` if it has not.

        Args:
          **amounts: an estimate for each rate that the call needs. An amount of 0 never waits.

        Raises:
          TypeError, ValueError: for a name that is not in the budget, or an amount that could
            never pass, because it is more than the burst.
          BudgetSpent: on entering, if an allowance does not have that much left.
        """
        return Reservation(self, needs_of(self, amounts))

    def settle(self, /, **actual: float) -> None:
        """Say what the call in hand has really spent, inside a step with this budget as its rate.

        Elsewhere use the `Spending` that `reserve` returns.

        Raises:
          RuntimeError: outside such a step.
          TypeError, ValueError: as for `Spending.settle`.
        """
        spending = _IN_HAND.get({}).get(id(self))
        if spending is None:
            raise RuntimeError(
                f"{self!r} has no call in hand here: settle what reserve() returns, or call this "
                "in a step that has the budget as its rate"
            )
        spending.settle(**actual)

    def observe_headers(
        self, headers: Headers, *, now: float | None = None, longest: float = _DAY
    ) -> None:
        """Take note of what a service says about its own counts, in the headers of a response.

        See `parse_rate_headers` for the dialects. Names such as ``input-tokens`` belong to the
        rate ``input_tokens``, and names with a period such as ``tokens-minute`` to ``tokens`` as
        well. A quota without a name belongs to ``requests``, or to the only rate. ``Retry-After``
        applies to all rates, if the service does not say how much is left.

        Like `RateLimiter.observe`, this can only make the budget slower.

        Args:
          headers: the headers, as a mapping or as pairs.
          now: the present Unix time, in seconds; by default the system's.
          longest: the most seconds for which a service may make everybody wait.
        """
        told = parse_rate_headers(headers, now=now)
        knows = False
        for state in told.quotas:
            rate = self._rate_of(state.name)
            if rate is not None:
                _observe(rate, state, longest)
                knows = knows or state.remaining is not None
        if told.retry_after is not None and not knows:
            for each in self._rates.values():
                if isinstance(each, RateLimiter):
                    each.observe(reset_after=min(told.retry_after, longest))

    def _rate_of(self, name: str) -> RateLimiter | None:
        names = [name, name.rpartition("_")[0]] if name else ["requests"]
        if not name and len(self._rates) == 1:
            names += self._rates
        found = [self._rates[each] for each in names if each in self._rates]
        return next((rate for rate in found if isinstance(rate, RateLimiter)), None)


@final
class Reservation:
    """Reserves amounts of a budget while its block runs."""

    __slots__ = ("_budget", "_needs", "_spending")

    def __init__(self, budget: Budget, needs: dict[str, Need]) -> None:
        self._budget = budget
        self._needs = needs

    @enable_ki_protection
    async def __aenter__(self) -> Spending:
        await trio.lowlevel.checkpoint_if_cancelled()
        needs = list(self._needs.values())
        wait = seconds_until(needs)
        if wait > 0:
            self._spending = _spend(self._budget, self._needs, await take_in_turn(needs, wait))
        else:
            self._spending = spend_nowait(self._budget, self._needs)
            await trio.lowlevel.cancel_shielded_checkpoint()
        return self._spending

    async def __aexit__(  # noqa: ASYNC910 (entering has a checkpoint)
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._spending.close()


# ---- for the engine: the parts of a reservation, for items that are paced by a budget ----


def needs_of(budget: Budget, amounts: Mapping[str, float]) -> dict[str, Need]:
    """Return what has to be taken from which meter.

    Raises:
      TypeError, ValueError: for a name or an amount that the budget cannot have.
    """
    needs: dict[str, Need] = {}
    for name, amount in amounts.items():
        meter = _meter(budget, name)
        meter.check(name, amount)
        if amount:
            needs[name] = meter, amount
    return needs


def spend_nowait(budget: Budget, needs: Mapping[str, Need]) -> Spending:
    """Take what `seconds_until` has just allowed."""
    return _spend(budget, needs, [meter.take(amount) for meter, amount in needs.values()])


async def spend(budget: Budget, needs: Mapping[str, Need], wait: float) -> Spending:
    """Wait in turn, and take everything that is needed."""
    return _spend(budget, needs, await take_in_turn(list(needs.values()), wait))


@contextmanager
def in_hand(budget: Budget, spending: Spending) -> Iterator[None]:
    """Let `Budget.settle` settle this spending while the block runs, then close it."""
    token = _IN_HAND.set({**_IN_HAND.get({}), id(budget): spending})
    try:
        yield
    finally:
        _IN_HAND.reset(token)
        spending.close()


_IN_HAND: ContextVar[Mapping[int, Spending]] = ContextVar("trio_turnstile spendings")


def _spend(budget: Budget, needs: Mapping[str, Need], marks: Sequence[float]) -> Spending:
    pairs = zip(needs.items(), marks, strict=True)
    return Spending(
        budget, {name: _Taken(meter, amount, mark) for (name, (meter, amount)), mark in pairs}
    )


def _meter(budget: Budget, name: str) -> Metered:
    meter = budget._meters.get(name)
    if meter is None:
        raise TypeError(f"{budget!r} has no rate {name!r}: it has {', '.join(budget._meters)}")
    return meter


def _observe(rate: RateLimiter, state: QuotaState, longest: float) -> None:
    limit = state.limit
    if limit is not None and state.period is not None:
        limit *= period_of(rate) / state.period
    reset_after = None
    if state.counts_anew and state.reset_after is not None and state.remaining is not None:
        reset_after = min(state.reset_after, longest)
    rate.observe(limit=limit, remaining=state.remaining, reset_after=reset_after)
