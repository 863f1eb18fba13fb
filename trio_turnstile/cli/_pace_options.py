"""The options of ``turnstile run`` that say when operations may start."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, final

import attrs
from cyclopts import Parameter, Token
from cyclopts.validators import Number

from trio_turnstile import Budget, RateLimiter

from ._arguments import UsageError
from ._columns import Columns
from ._cores import usable_cores
from ._cost import Cost
from ._durations import Duration
from ._options import PACE, Seconds, to_size
from ._rates import Load, Rate, Size
from ._room import Room, free_memory_at_least, load_at_most

_NO_DELAY = Duration(0)


def _to_rate(_: Any, tokens: Sequence[Token]) -> Rate:
    return Rate.parse(tokens[0].value)


def _to_load(_: Any, tokens: Sequence[Token]) -> Load:
    return Load.parse(tokens[0].value, usable_cores())


@Parameter(name="*", group=PACE)
@final
@attrs.frozen(kw_only=True)
class PaceOptions:
    """When operations may start."""

    rate: Annotated[Rate | None, Parameter(converter=_to_rate, n_tokens=1, accepts_keys=False)] = (
        None
    )
    """How many operations may start per second, minute, hour or day: 5/s, 100/m, 1000/h or
    10000/d. The starts are spread evenly, and retries count."""

    cost: str | None = None
    """How much of --rate an operation takes, if not 1: a column with its cost, such as {2} or
    {tokens}, or a number. After a quiet time, the whole amount of the rate may be spent at
    once."""

    delay: Seconds = _NO_DELAY
    """How long to wait between two starts."""

    load: Annotated[Load | None, Parameter(converter=_to_load, n_tokens=1, accepts_keys=False)] = (
        None
    )
    """Start nothing while the load average of the last minute is above this: 8, or 90% for
    0.9 per core. The load average reacts slowly, so give --delay as well."""

    memfree: Annotated[
        Size | None, Parameter(converter=to_size, n_tokens=1, accepts_keys=False)
    ] = None
    """Start nothing while less memory than this is free: 500M or 2G. Running operations go
    on."""

    nice: Annotated[int | None, Parameter(validator=Number(gte=1, lte=19))] = None
    """Lower the priority of the commands, and of turnstile itself, by this much: 1 to 19."""

    def lower_priority(self) -> None:
        """Lower the priority of this process; the commands inherit it."""
        if self.nice is not None:
            os.nice(self.nice)

    def make_room(self, note: Callable[[str], object]) -> Room:
        """Return the `Room`, which waits until the machine has room.

        Args:
          note: shows a line to the user.
        """
        load = [] if self.load is None else [load_at_most(self.load.average)]
        memory = (
            [] if self.memfree is None else [free_memory_at_least(*attrs.astuple(self.memfree))]
        )
        return Room([*load, *memory], note)

    def make_pace(self, columns: Columns) -> Pace:
        """Return the pace at which operations start.

        Raises:
          UsageError: if the cost does not fit the columns or the rate.
        """
        if self.cost is None:
            rates = [self.rate.per_second] if self.rate is not None else []
            rates += [1 / self.delay] if self.delay else []
            return Pace(RateLimiter(min(rates)) if rates else None)
        if self.rate is None:
            raise UsageError("--cost is how much of --rate an operation takes: give --rate too")
        rate = RateLimiter.per(self.rate.amount, seconds=self.rate.seconds)
        try:
            cost = Cost.parse(self.cost, columns, rate.burst)
        except ValueError as error:
            raise UsageError(f"--cost: {error}") from None
        if not self.delay:
            return Pace(rate, cost.of, cost)
        both = Budget(cost=rate, starts=RateLimiter(1 / self.delay))
        return Pace(both, lambda operation: {"cost": cost.of(operation), "starts": 1}, cost)


@final
@attrs.frozen
class Pace:
    """The pace at which operations start."""

    rate: RateLimiter | Budget | None
    """The rate limit they wait for; ``None`` for none."""
    price: Callable[[Any], float | Mapping[str, float]] | None = None
    """How much of the rate an operation takes, if not 1."""
    cost: Cost | None = None
    """Checks the cost of each operation."""
