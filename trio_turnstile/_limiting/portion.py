"""`Portion`: a way into a limiter on certain terms, with the methods that limiters have."""

from __future__ import annotations

from types import TracebackType
from typing import final

import trio
from trio.lowlevel import (
    cancel_shielded_checkpoint,
    checkpoint_if_cancelled,
    current_task,
    enable_ki_protection,
)

from .claims import Claim
from .sack import Sack


@final
class Portion:
    """Several tokens of a limiter at once, or the tokens of one key of a `SharedLimiter`.

    Made by `Limiter.tokens` and `SharedLimiter.of`. It holds no tokens itself, so any number of
    tasks can use it, any number of times::

        async with gpu.tokens(4):
            ...

    It has the methods of a limiter, with the same meaning, so trio accepts it as one:
    ``trio.to_thread.run_sync(..., limiter=gpu.tokens(4))``.
    """

    __slots__ = ("_claim", "_sack")

    def __init__(self, sack: Sack, claim: Claim) -> None:
        self._sack = sack
        self._claim = claim

    def __repr__(self) -> str:
        claim = self._claim
        whose = "" if claim.key is None else f" for {claim.key!r}"
        return f"<trio_turnstile.Portion of {self._sack!r}: {claim.width} tokens{whose}>"

    @property
    def number(self) -> int:
        """How many tokens are taken at once."""
        return self._claim.width

    @enable_ki_protection
    def acquire_nowait(self) -> None:
        """Take the tokens for the current task, without blocking.

        Raises:
          trio.WouldBlock: if fewer are free, or others are waiting.
          TooWide: if they are more than the limit.
          trio.ClosedResourceError: if the limiter is closed.
          RuntimeError: if the task has tokens of the limiter already.
        """
        self._sack.take_nowait(current_task(), self._claim)

    @enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Take the tokens for ``borrower``, any hashable object, as `acquire_nowait` does."""
        self._sack.take_nowait(borrower, self._claim)

    @enable_ki_protection
    async def acquire(self) -> None:
        """Take the tokens for the current task; wait in turn until enough are free.

        If cancelled while it waits, it takes no token.

        Raises:
          TooWide: if they are more than the limit, now or while the task waits.
          Saturated: if ``max_waiting`` tasks are waiting already.
          trio.ClosedResourceError: if the limiter is closed, now or while the task waits.
          RuntimeError: if the task has tokens of the limiter already.
        """
        await self.acquire_on_behalf_of(current_task())

    @enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Take the tokens for ``borrower``, any hashable object, as `acquire` does."""
        sack, claim = self._sack, self._claim
        if sack.max_waiting is not None:
            sack.shed(sack.max_waiting, claim.width)
        await checkpoint_if_cancelled()
        try:
            sack.take_nowait(borrower, claim)
        except trio.WouldBlock:
            await sack.queue(borrower, claim)
        else:
            await cancel_shielded_checkpoint()

    @enable_ki_protection
    def release(self) -> None:
        """Give back the tokens of the current task.

        Raises:
          RuntimeError: if the task has none.
        """
        self._sack.release(current_task())

    @enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give back the tokens of ``borrower``, as `release` does for the task."""
        self._sack.release(borrower)

    @enable_ki_protection
    async def __aenter__(self) -> None:
        # The body of `acquire_on_behalf_of`: calling it would be a tenth of the whole cost.
        sack, claim = self._sack, self._claim
        if sack.max_waiting is not None:
            sack.shed(sack.max_waiting, claim.width)
        await checkpoint_if_cancelled()
        borrower = current_task()
        try:
            sack.take_nowait(borrower, claim)
        except trio.WouldBlock:
            await sack.queue(borrower, claim)
        else:
            await cancel_shielded_checkpoint()

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_value is None:
            self._sack.release(current_task())
        else:
            self._sack.release_after(current_task(), exc_value)
