"""`Gate`: where items take their tokens if the item decides which tokens, and how many.

An item may need several tokens (``weight=``), or those of its key (``limiter=hosts.by(...)``). It
asks for them after it was received, and before it waits for a rate.

With only a weight there is one line for all, so a step stops reading while an item waits in it,
as it does when items need a token each. If tokens are shared by keys, the step has to see items of
several keys, or there would be nobody to take turns. So it goes on reading while items wait. All
items that wait for one key take a single place in the window, so that a slow key does not fill it.
They have a bound of their own: when too many items of one key wait, the step stops reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeAlias, final
from weakref import WeakKeyDictionary

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._limiting.claims import Claim
from trio_turnstile._limiting.either import AnyLimiter, Tokens, as_limiter
from trio_turnstile._limiting.limiter import Limiter
from trio_turnstile._limiting.shared import ByKey
from trio_turnstile._texts import shown
from trio_turnstile._util import check_whole

from .counts import Counts
from .window import Size, Window

Weight: TypeAlias = int | Callable[[Any], int]
"""How many tokens an item needs, or a function of the item that returns it."""


@final
@attrs.frozen(eq=False)
class Claims:
    """What items ask of the limiter of a step."""

    claim_of: Callable[[Any], Claim]
    """Returns what an item asks for; it is user code."""
    waiting: int | None
    """The most items of one key that wait, if the limiter is shared by keys."""

    def through(self, view: Callable[[Any], Any]) -> Claims:
        """Return the same claims, for items that have to be looked at through a function."""
        claim_of = self.claim_of
        return Claims(lambda item: claim_of(view(item)), self.waiting)


def as_entry(
    limiter: AnyLimiter | ByKey[Any] | int, weight: Weight | None, argument: str, name: str
) -> tuple[AnyLimiter, Claims | None]:
    """Return the limiter of a step, and what items ask of it if not one token each.

    Args:
      limiter: what the user passed.
      weight: how many tokens an item needs; ``None`` for one.
      argument: the name of the argument that the limiter was.
      name: the name of a limiter that is made from a number.

    Raises:
      TypeError, ValueError: if the limiter or the weight has a wrong type or value.
    """
    by = limiter if isinstance(limiter, ByKey) else None
    found = (
        limiter.shared.limiter
        if isinstance(limiter, ByKey)
        else as_limiter(limiter, argument, name)
    )
    if weight is not None and not isinstance(found, Limiter):
        raise TypeError(
            f"a weight needs a Limiter, not {found!r}: a trio.CapacityLimiter gives one token at a "
            "time"
        )
    if weight is not None and not callable(weight):
        check_whole("weight", weight, 1)
    if by is None and weight is None:
        return found, None

    def claim_of(item: Any) -> Claim:
        width = weight(item) if callable(weight) else weight or 1
        check_whole("the weight of an item", width, 1)
        if by is None:
            return Claim(width)
        key = by.key(item)
        hash(key)
        return Claim(width, key, 0 if by.priority is None else _whole(by.priority(item)))

    return found, Claims(claim_of, None if by is None else by.waiting)


def _whole(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"the priority of an item must be a whole number, not {shown(priority)}")
    return priority


@final
class Gate:
    """Takes the tokens that items ask for; one for each step in each run.

    Args:
      tokens: the tokens of the limiter.
      claims: what items ask for.
    """

    def __init__(self, tokens: Tokens, claims: Claims) -> None:
        self.spare = 0
        """How many items take no place in the window, because another waits for the same key."""
        self._tokens = tokens
        self._claim_of = claims.claim_of
        self._most = claims.waiting
        self._asked: WeakKeyDictionary[Any, Claim] = WeakKeyDictionary()
        self._waiting: dict[Hashable, int] = {}
        self._too_many = 0
        self._tell: Callable[[], object] = lambda: None
        if self._most is not None:
            # Free tokens say nothing if keys share them: the window says how far to read.
            tokens = attrs.evolve(tokens, inner=trio.CapacityLimiter(math.inf))
        self.tokens: Tokens = attrs.evolve(
            tokens, acquire_nowait=self._take_nowait, acquire=self._take
        )
        """The tokens, for borrowers that have asked: each gets what it asked for."""

    @property
    def reads_on(self) -> bool:
        """Whether other items are received while some wait here."""
        return self._most is not None

    @property
    def is_full(self) -> bool:
        """Whether too many items of one key wait, so that no others should be received."""
        return self._too_many > 0

    def widened(self, size: Size, counts: Counts) -> Size:
        """Return the size of a window in which a key that waits takes one place."""
        return lambda: counts.in_flight if self._too_many else size() + self.spare

    def tell(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` whenever the room in the window changes."""
        self._tell = listener

    def ask(self, item: object, borrower: object) -> None:
        """Note what the borrower will need. This calls user code, which may raise."""
        self._asked[borrower] = self._claim_of(item)

    # ---- for the tokens ----

    @enable_ki_protection
    def _take_nowait(self, borrower: object) -> None:
        self._tokens.take_nowait(borrower, self._asked[borrower])

    @enable_ki_protection
    async def _take(self, borrower: object) -> None:
        claim = self._asked[borrower]
        if self._most is None:
            await self._tokens.take(borrower, claim)
            return
        self._count(claim.key, 1, self._most)
        try:
            await self._tokens.take(borrower, claim)
        finally:
            self._count(claim.key, -1, self._most)

    def _count(self, key: Hashable, change: int, most: int) -> None:
        """Count an item that begins to wait for its key, or that no longer waits."""
        before = self._waiting.get(key, 0)
        after = before + change
        if after:
            self._waiting[key] = after
        else:
            del self._waiting[key]
        self.spare += max(after - 1, 0) - max(before - 1, 0)
        self._too_many += max(after - most, 0) - max(before - most, 0)
        self._tell()


def window_of(counts: Counts, size: int | None, default: Size, gate: Gate | None) -> Window:
    """Return the window of a worker pool; a key that waits at the gate takes one place in it."""
    if gate is None or not gate.reads_on:
        return Window(counts, size, default)
    if size is not None:
        check_whole("window", size, 1)
    base = default if size is None else partial(float, size)
    return Window(counts, None, gate.widened(base, counts), certain=0)
