"""`SharedLimiter`: one limit for all, and a fair share of it for each key.

It stands in front of a `Limiter`, which has the tokens, so whatever moves a limiter moves this one.
It decides whose turn it is (see `Shares`), and adds limits for single keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar, final

import attrs
from trio.lowlevel import enable_ki_protection

from trio_turnstile._texts import shown
from trio_turnstile._util import check_number, check_seconds, check_whole
from trio_turnstile.limits import LimitPolicy, Outcome

from .claims import Claim
from .events import LimiterStatistics
from .lanes import Lane, busiest
from .limiter import Limiter
from .limiter_options import LimiterOptions
from .portion import Portion
from .sampling import AnySampler
from .shares import Shares, Terms

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

BUSIEST = 5
"""How many keys the statistics list by name."""


@final
@attrs.frozen
class KeyStatistics:
    """The state of one key of a `SharedLimiter` at one moment."""

    key: Hashable
    """The key."""
    running: int
    """How many tokens it holds."""
    waiting: int
    """How many requests for its tokens wait."""
    limit: float
    """How many tokens it may hold now."""
    weight: float
    """How much it gets, relative to other keys that wait."""


@final
@attrs.frozen
class SharedStatistics:
    """The state of a `SharedLimiter` at one moment."""

    limiter: LimiterStatistics
    """The state of its limiter: all keys together."""
    active: int
    """How many keys hold tokens or wait for some."""
    known: int
    """How many keys are remembered; idle ones are forgotten from time to time."""
    busiest: tuple[KeyStatistics, ...]
    """Up to five keys that hold and wait for the most tokens, the busiest first."""


class ShareOptions(LimiterOptions, total=False):
    """The options of a limiter that is shared by keys, as `Turnstile.shared` takes them."""

    each: int | Callable[[Any], float] | None
    weight: Callable[[Any], float] | None
    every: float
    ageing: float
    adapt: Callable[[Any], LimitPolicy] | None


def make_shared(
    make_limiter: Callable[..., Limiter], name: str, total: float, options: Mapping[str, Any]
) -> SharedLimiter:
    """Make a limiter with its own options, and share it by keys as the others say."""
    own = ShareOptions.__optional_keys__ - LimiterOptions.__optional_keys__
    shares = {option: value for option, value in options.items() if option in own}
    rest = {option: value for option, value in options.items() if option not in own}
    return SharedLimiter(make_limiter(name, total, **rest), **shares)


@final
@attrs.frozen(eq=False)
class ByKey(Generic[T_contra]):
    """A shared limiter for a step, whose items have keys; made by `SharedLimiter.by`."""

    shared: SharedLimiter
    """The shared limiter."""
    key: Callable[[T_contra], Hashable]
    """Returns the key of an item."""
    priority: Callable[[T_contra], int] | None
    """Returns the priority of an item."""
    waiting: int
    """The most items of one key that a step takes in hand while they wait."""


@final
class SharedLimiter:
    """A limiter whose tokens are shared by keys, such as hosts, tenants or users.

    Made by `Turnstile.shared`::

        hosts = turnstile.shared("hosts", 40, each=2)
        async with hosts.of("example.org"):
            ...
        Processor(fetch, limiter=hosts.by(host_of))

    Keys that wait are served in turn, so a key with a thousand calls does not hold up one that
    has five. A key that holds as many tokens as it may does not hold up others. Keys need not
    be announced, and idle ones are forgotten.

    Args:
      limiter: the limiter that has the tokens. Callers that use it directly, without a key,
        are served as usual; while others wait, they count as one more key.
      each: how many tokens a key may hold, or a function of the key that returns it; ``None``
        for no limit.
      weight: a function of the key that returns its weight. Of two keys that wait, one of
        weight 2 gets twice as many tokens as one of weight 1. By default all are equal.
      every: seconds between the beginnings of two calls of one key; 0 for none.
      ageing: seconds of waiting that are worth one step of priority; `math.inf` if the higher
        priority always comes first.
      adapt: a function of the key that makes an adaptive policy for it, which moves the limit
        of the key below ``each``.

    Raises:
      TypeError, ValueError: for an argument of a wrong type or value.
      RuntimeError: if the limiter is in no turnstile.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        each: int | Callable[[Any], float] | None = None,
        weight: Callable[[Any], float] | None = None,
        every: float = 0,
        ageing: float = 60.0,
        adapt: Callable[[Any], LimitPolicy] | None = None,
    ) -> None:
        if each is None:
            each_of: float | Callable[[Any], float] = math.inf
        elif callable(each):
            each_of = each
        else:
            check_whole("each", each, 1, infinite=True)
            each_of = each
        for name, function in (("weight", weight), ("adapt", adapt)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function of the key, not {shown(function)}")
        check_seconds("every", every)
        if ageing != math.inf:
            check_seconds("ageing", ageing, positive=True)
        if limiter._actuator.dispatcher is None:
            raise RuntimeError(
                f"limiter {limiter.name!r} is in no turnstile, so no time would pass for its keys: "
                "use turnstile.shared(...)"
            )
        self._limiter = limiter
        actuator, sack = limiter._actuator, limiter._sack
        self._shares = Shares(
            lambda: actuator.name,
            Terms(each_of, weight, every, ageing, adapt),
            attrs.evolve(limiter.throttle, min=0),
            portion=lambda key: Portion(sack, Claim(1, key)),
            note=actuator.note,
            wake=lambda: actuator.wake_with(self._clock),
        )
        self._clock = _Clock(limiter, self._shares)
        sack.share(self._shares, None if adapt is None else partial(_KeyedSampler, self._shares))

    def __repr__(self) -> str:
        return f"<trio_turnstile.SharedLimiter of {len(self._shares.lanes)} keys, {self._limiter}>"

    @property
    def name(self) -> str:
        """The name of the limiter."""
        return self._limiter.name

    @property
    def limiter(self) -> Limiter:
        """The limiter that has the tokens: to move its limit, pause it, or see its decisions."""
        return self._limiter

    def of(self, key: Hashable, *, tokens: int = 1, priority: int = 0) -> Portion:
        """Return the way in for one key: ``async with hosts.of("example.org")``.

        Args:
          key: on whose account: any hashable object. ``None`` stands for nobody in particular,
            and has no limit of its own.
          tokens: how many tokens to take at once.
          priority: a caller with a higher one goes first, whatever its key, unless others have
            waited too long.

        Raises:
          TypeError, ValueError: if ``tokens`` is not a whole number of 1 or more, or
            ``priority`` is not a whole number.
        """
        if tokens == 1 and priority == 0:
            return self._shares.lane(key).portion
        return Portion(self._limiter._sack, self._claim(key, tokens, priority))

    def by(
        self,
        key: Callable[[T], Hashable],
        *,
        priority: Callable[[T], int] | None = None,
        waiting: int = 1000,
    ) -> ByKey[T]:
        """Return what bounds a step: ``limiter=hosts.by(host_of)``.

        A step goes on reading while items wait for their keys, so that items of other keys can
        go ahead of them. All items that wait for one key take a single place in the window of
        the step. Once ``waiting`` items of a key wait, the step stops reading.

        Args:
          key: returns the key of an item; for a step with batches, the key of a list of items.
          priority: returns the priority of an item; without it, all have 0.
          waiting: how many items of one key may wait.

        Raises:
          TypeError, ValueError: for an argument of a wrong type or value.
        """
        for name, function in (("key", key), ("priority", priority)):
            if not callable(function) and not (name == "priority" and function is None):
                raise TypeError(f"{name} must be a function of an item, not {shown(function)}")
        check_whole("waiting", waiting, 1)
        return ByKey(self, key, priority, waiting)

    @enable_ki_protection
    def set(self, key: Hashable, *, limit: int | None = None, weight: float | None = None) -> None:
        """Set the limit or the weight of one key, at once and for as long as the limiter lives.

        Args:
          key: the key.
          limit: how many tokens it may hold; ``None`` to leave the limit as it is.
          weight: how much it gets, relative to others; ``None`` to leave the weight as it is.

        Raises:
          TypeError, ValueError: if the limit is not a whole number of 1 or more, or the weight
            is not a number over 0.
        """
        if limit is not None:
            check_whole("limit", limit, 1, infinite=True)
        if weight is not None:
            check_number("weight", weight, positive=True)
        self._shares.set(key, limit, weight)
        self._limiter._line.check_again()

    def statistics(self) -> SharedStatistics:
        """Return the state at this moment: the sum over all keys, and the busiest few by name."""
        lanes = self._shares.lanes.values()
        active = [lane for lane in lanes if not lane.is_idle]
        return SharedStatistics(
            limiter=self._limiter.statistics(),
            active=len(active),
            known=len(lanes),
            busiest=tuple(map(_statistics_of, busiest(active, BUSIEST))),
        )

    def _claim(self, key: Hashable, tokens: int, priority: int) -> Claim:
        check_whole("tokens", tokens, 1)
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise TypeError(f"priority must be a whole number, not {shown(priority)}")
        return Claim(tokens, key, priority)


def _statistics_of(lane: Lane) -> KeyStatistics:
    return KeyStatistics(lane.key, lane.held, lane.waiting, lane.limit, lane.weight)


@final
@attrs.frozen(eq=False)
class _Clock:
    """Lets time pass for the keys: the throttle task visits it."""

    _limiter: Limiter
    _shares: Shares

    def tick(self, now: float) -> float:
        """Let time pass; return when to call again, on trio's clock."""
        if self._limiter._actuator.closed:
            return math.inf
        due = self._shares.tick(now)
        self._limiter._line.settle()
        return due


@final
class _KeyedSampler:
    """Reports calls to the policy of the limiter, and to the policies of single keys."""

    def __init__(self, shares: Shares, of_all: AnySampler | None) -> None:
        self.calls: dict[object, tuple[AnySampler, ...]] = {}
        self._of_all = of_all
        self._shares = shares

    def wants(self) -> bool:
        return True  # `start` asks each of them

    def start(self, borrower: object, now: float, in_flight: int) -> None:
        asked: list[AnySampler] = []
        if self._of_all is not None and self._of_all.wants():
            self._of_all.start(borrower, now, in_flight)
            asked.append(self._of_all)
        lane = self._shares.lane_of(borrower)
        if lane is not None and lane.sampler is not None and lane.sampler.wants():
            lane.sampler.start(borrower, now, lane.held)
            asked.append(lane.sampler)
        self.calls[borrower] = tuple(asked)

    def restart(self, borrower: object, now: float) -> None:
        for sampler in self.calls[borrower]:
            sampler.restart(borrower, now)

    def finish(self, borrower: object, now: float, outcome: Outcome) -> None:
        for sampler in self.calls.pop(borrower):
            sampler.finish(borrower, now, outcome)
