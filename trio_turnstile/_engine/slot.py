"""`Slot`: what one worker has in hand, and the token it holds for it."""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._limiting.either import Tokens

from .counts import Fate


@final
class Slot:
    """One worker's place for an item, used again for each item; it is the token's borrower."""

    __slots__ = (
        "cancelled",
        "fate",
        "held",
        "item",
        "key",
        "number",
        "phase",
        "scope",
        "step",
        "unawaited",
    )

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        """Surrounds all that the worker does; cancelling it ends the worker."""
        self.fate = Fate.CANCELLED
        """How the item ended. Cancelled, until the front end sets something better."""
        self.number = 0
        """Sequence number of the current item, starting at 1."""
        self.unawaited = 0
        """The last item that may have finished without a checkpoint (see `WorkerPool._breathe`)."""
        self.step = 0
        """The index of the step that has the item in hand, among those of the worker."""
        self.item: object = None
        """What that step was given, if it is not the first."""
        self.key: object = None
        """The key of the item, where items of one key go one after the other."""
        self.phase = ""
        """The phase that the operation is in, for its errors."""
        self.cancelled = False
        """Whether the scope was cancelled, so that the worker can take no other item."""
        self.held: Tokens | None = None
        """The tokens of which one is held."""

    @enable_ki_protection
    async def acquire(self, tokens: Tokens) -> None:
        """Take a token, waiting for it."""
        await tokens.acquire(self)
        self.held = tokens

    @enable_ki_protection
    def release(self) -> None:
        """Give the token back, if one is held, after work that succeeded."""
        tokens, self.held = self.held, None
        if tokens is not None:
            tokens.release(self)

    @enable_ki_protection
    def release_after(self, error: BaseException) -> None:
        """Give the token back, if one is held, after work that raised ``error``."""
        tokens, self.held = self.held, None
        if tokens is not None:
            tokens.release_after(self, error)

    @enable_ki_protection
    def release_cancelled(self) -> None:
        """Give the token back, if one is held, after a call of which no policy should learn."""
        tokens, self.held = self.held, None
        if tokens is not None:
            tokens.release_cancelled(self)
