"""`Slot`: what one worker has in hand, and the token it holds for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._limiting.either import AnyLimiter, Tokens

from .counts import Fate
from .toll import Toll


@final
class Slot:
    """One worker's place for an item, used again for each item.

    The worker's task is the borrower of its token. So if user code asks for a second token of the
    limiter that bounds its step, it gets the same error as any other holder.
    """

    __slots__ = (
        "_lendings",
        "_lent",
        "_surrounding",
        "cancelled",
        "fate",
        "gave_back",
        "held",
        "item",
        "key",
        "number",
        "phase",
        "scope",
        "step",
        "task",
        "toll",
        "turn_ends",
        "unawaited",
    )

    def __init__(
        self, scope: trio.CancelScope, gave_back: Callable[[], object] = lambda: None
    ) -> None:
        self.scope = scope
        """Surrounds everything that the worker does; cancelling it ends the worker."""
        self.gave_back = gave_back
        """Is called when the token is given back while the item is still in hand."""
        self.task = trio.lowlevel.current_task()
        """The worker's task, and the borrower of its token."""
        self.fate = Fate.CANCELLED
        """How the item ended. Cancelled, until the front end sets something better."""
        self.number = 0
        """Sequence number of the current item, starting at 1."""
        self.unawaited = 0
        """The last item that may have finished without a checkpoint (see `WorkerPool._breathe`)."""
        self.turn_ends = 0.0
        """When to let others run if nothing is awaited, on the clock of the processor."""
        self.step = 0
        """The index of the step that has the item in hand, among the steps of the worker."""
        self.item: object = None
        """What that step was given, if it is not the first."""
        self.key: object = None
        """The key of the item, if items of one key go one after the other."""
        self.phase = ""
        """The phase that the operation is in, for its errors."""
        self.toll: Toll | None = None
        """What the item has to pay, if it has a cost."""
        self.cancelled = False
        """Whether the scope was cancelled, so that the worker can take no other item."""
        self.held: Tokens | None = None
        """The tokens from which one is held."""
        self._lent: Tokens | None = None
        self._lendings = 0
        self._surrounding: Slot | None = None

    @enable_ki_protection
    async def acquire(self, tokens: Tokens) -> None:
        """Take a token, waiting for it."""
        await tokens.acquire(self.task)
        self.held = tokens

    @enable_ki_protection
    def release(self) -> None:
        """Give the token back, if one is held, after work that succeeded."""
        tokens, self.held = self.held, None
        if tokens is not None:
            tokens.release(self.task)
            self.gave_back()

    @enable_ki_protection
    def release_after(self, error: BaseException) -> None:
        """Give the token back, if one is held, after work that raised ``error``."""
        tokens, self.held = self.held, None
        if tokens is not None:
            tokens.release_after(self.task, error)
            self.gave_back()

    @enable_ki_protection
    def release_cancelled(self) -> None:
        """Give the token back, if one is held, after a call from which no policy should learn."""
        tokens, self.held = self.held, None
        if tokens is not None:
            tokens.release_cancelled(self.task)
            self.gave_back()

    # ---- runs inside of a step ----

    def surround(self) -> None:
        """Become the slot that is found by runs that this worker's user code starts."""
        self._surrounding = _SURROUNDING.get()
        _SURROUNDING.set(self)

    def outwards(self) -> Iterator[Slot]:
        """Go through this slot and those that surround it."""
        yield self
        if self._surrounding is not None:
            yield from self._surrounding.outwards()

    def lend(self, limiters: Collection[AnyLimiter]) -> bool:
        """Give the token back until `take_back`, if it belongs to one of these limiters."""
        tokens = self.held if self._lent is None else self._lent
        if tokens is None or tokens.limiter not in limiters:
            return False
        self._lent = tokens
        self._lendings += 1
        self.release_cancelled()
        return True

    async def take_back(self) -> None:
        """Wait for the token that was given back, once all runs that it was lent to have ended."""
        self._lendings -= 1
        if self._lendings or self._lent is None:
            await trio.lowlevel.checkpoint()
            return
        tokens, self._lent = self._lent, None
        await self.acquire(tokens)


def surrounding_slot() -> Slot:
    """Return the slot of the worker in whose task this is called."""
    slot = _SURROUNDING.get()
    assert slot is not None
    return slot


_SURROUNDING: ContextVar[Slot | None] = ContextVar("surrounding", default=None)
"""The slot of the worker whose user code is running, in this task or around it."""


@asynccontextmanager
@enable_ki_protection
async def lent_tokens(limiters: Collection[AnyLimiter]) -> AsyncIterator[None]:
    """Give back, while the block runs, the tokens of these limiters that surrounding steps hold.

    A step may run a whole pipeline under the limiter that bounds the step itself. While it waits
    for the pipeline it does nothing else, so its token goes to the pipeline. If steps kept their
    tokens, as many of them as there are tokens would wait for each other for ever.
    """
    around = _SURROUNDING.get()
    slots = [] if around is None else [slot for slot in around.outwards() if slot.lend(limiters)]
    try:
        yield
    finally:
        for slot in slots:
            await slot.take_back()
