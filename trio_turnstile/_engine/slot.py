"""`Slot`: a worker's hold on a token, of whichever limiter bounds its stage."""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._limiting.limiter import Limiter

from .counts import Fate

CUT_OFF = BaseException("cut off")
"""What a call ended with that was cancelled: nothing is learnt of it."""


@final
class Slot:
    """A worker's hold on a token, at most one at a time; it is the token's borrower."""

    __slots__ = ("cancelled", "fate", "held", "item", "key", "number", "scope", "step", "unawaited")

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        """Round all that the worker does; cancelling it ends the worker."""
        self.fate: Fate = "cancelled"
        """What became of the item; the front end says so."""
        self.number = 0
        """The how-manieth item of the stage is in hand, from 1."""
        self.unawaited = 0
        """The number of the last item that may not have awaited anything."""
        self.step = 0
        """The index of the step that has the item in hand, among those of the worker."""
        self.item: object = None
        """What that step was given, if it is not the first."""
        self.key: object = None
        """What the item was admitted with, for the front end."""
        self.cancelled = False
        """Whether the scope was cancelled, so that the worker can do no more."""
        self.held: AnyLimiter | None = None
        """The limiter whose token is held."""

    @enable_ki_protection
    async def acquire(self, limiter: AnyLimiter) -> None:
        """Take a token, waiting for it."""
        if isinstance(limiter, Limiter):
            await limiter._acquire_in_turn(self)
        else:
            await limiter.acquire_on_behalf_of(self)
        self.held = limiter

    @enable_ki_protection
    def release(self, error: BaseException | None = None) -> None:
        """Give the token back, if one is held, after work that ended with ``error``."""
        limiter, self.held = self.held, None
        if limiter is None:
            return
        if error is not None and isinstance(limiter, Limiter):
            limiter._release_after(self, error)
        else:
            limiter.release_on_behalf_of(self)
