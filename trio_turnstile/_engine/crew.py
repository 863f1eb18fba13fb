"""`Crew`: the workers of one pool, counted by what they do, and the foreman who hires them.

The *foreman* hires workers one by one, when a token is free and nobody is looking for an item.
While another worker would be of no use, the foreman rests. This is the case if a worker is idle;
if there is no room; or if the crew *claims* all tokens: for each token there is a worker that has
it or queues for it. Then a token becomes free for another worker only if a worker gives it back and
goes on with its item, or if the limit is raised, and both wake the foreman.

Otherwise somebody else has tokens, and the foreman would have to look whenever one is given back.
Instead the foreman looks once a scheduling round while items flow, and queues at the limiter like
everyone else when they do not. So a token that another user of the limiter gives back is noticed at
once, and the queue of a busy limiter stays empty, which keeps the non-blocking way in open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import final

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from trio_turnstile._limiting.either import Tokens

from .slot import Slot
from .window import Window


@final
class Crew:
    """The workers of a pool: how many they are, and what they do.

    Args:
      tokens: an item needs one before it is handled.
      window: how many items, and so how many workers, there may be.
      reads_ahead: whether one more worker than there are tokens should wait for an item.
      may_claim: whether an item waits for nothing but a rate before it queues for a token, and
        usually keeps the token to its end.
    """

    def __init__(
        self, tokens: Tokens, window: Window, *, reads_ahead: bool, may_claim: bool
    ) -> None:
        self._tokens = tokens
        self._window = window
        self._reads_ahead = reads_ahead
        self._may_claim = may_claim
        self.slots: set[Slot] = set()
        """What the workers have in hand."""
        self.received = 0
        """How many items the workers have received."""
        self.queueing = 0
        """Workers that wait for a token with an item in hand."""
        self.short_of_room = False
        """Whether the foreman rests because there is no room in the window for a worker."""
        self._start: Callable[[], object] = lambda: None
        self._context = Context()
        self._size = 0
        self._idle = 0
        """Workers that wait for an item or a rate; while there is one, nobody else is needed."""
        self._foreman = trio.CancelScope()
        self._lot = trio.lowlevel.ParkingLot()
        self._bench = trio.lowlevel.ParkingLot()
        self._closed = False
        self._rests = False
        self._claims = False
        """Whether the foreman rests because the crew claims all tokens, and nothing has changed."""

    # ---- the foreman ----

    @enable_ki_protection
    async def hire(self, start: Callable[[], object]) -> None:
        """Start workers, each as idle, until `close`."""
        seen = -1
        self._start, self._context = start, copy_context()
        soon = trio.lowlevel.current_trio_token().run_sync_soon
        wake = partial(soon, self.wake, idempotent=True)
        with self._foreman, self._tokens.telling(wake):
            while True:
                if not self._has_use():
                    await self._rest()
                elif self.may_receive():
                    self._take_on()
                elif self._claims_all():
                    self._claims = True
                    await self._rest()
                    self._claims = False
                elif seen != self.received:
                    # Items flow: those who give tokens back also take the next item.
                    seen = self.received
                    await checkpoint()
                else:
                    # Nothing moved for a round, so only the limiter's queue can show a free
                    # token: the limit may be raised, or another user may give a token back. The
                    # wait is not a call of the service, and a policy must not learn from it.
                    await self._tokens.wait_free(self)
                    # Hire before another look: a second foreman may have the token by now,
                    # and the two would pass it back and forth, each finding none.
                    if not self.queueing and self._has_use():
                        self._take_on()

    def close(self) -> None:
        """Stop hiring, and let those who stand by go, as they find no item."""
        self._rests = False
        self._closed = True
        self._foreman.cancel()
        while self._bench:
            self._take_on()

    def wake(self) -> None:
        """Make the foreman look again, if another worker may be of use."""
        if not self._rests:
            return
        self._claims = False
        if self._has_use():
            self._rests = self.short_of_room = False
            self._lot.unpark()
        else:
            self.short_of_room = not self._idle

    def gave_back(self) -> None:
        """Note that a worker gave its token back and goes on with its item."""
        if self._claims:
            self.wake()

    async def _rest(self) -> None:
        self._rests = True
        self.short_of_room = not (self._idle or self._has_use())
        try:
            await self._lot.park()
        finally:
            self._rests = False

    def _has_use(self) -> bool:
        return not self._idle and self._window.fits(self._size)

    def _claims_all(self) -> bool:
        if not (self._may_claim and self._tokens.tells and self._size):
            return False
        held = sum(slot.held is self._tokens for slot in self.slots)
        return held + self.queueing >= self._tokens.total_tokens

    def _take_on(self) -> None:
        self._size += 1
        self._idle += 1
        if not self._bench.unpark():
            self._start()

    def _may_read_ahead(self) -> bool:
        return self._reads_ahead and not self.queueing

    # ---- the workers ----

    def idle(self) -> None:
        """Note that a worker waits, and that another one beside it would have to wait too."""
        self._idle += 1

    def no_longer_idle(self) -> None:
        """Note that such a worker goes on, or begins."""
        self._idle -= 1
        if not self._claims:  # else it claims its token again
            self.wake()

    def has_received(self) -> None:
        """Note that a worker that waited for an item has one.

        Another worker is hired here and now. By the time the foreman looks, this worker would often
        wait again, and a reader that reads for each waiting worker would have paused meanwhile.
        """
        self._idle -= 1
        own = 0 if self._may_read_ahead() else 1  # this worker's token is among those free
        if self._rests and self._has_use() and self._tokens.available_tokens > own:
            self._context.run(self._take_on)  # not in a context that the worker's items have set
        elif not self._claims:
            self.wake()

    async def stand_by(self) -> bool:
        """Wait to be taken on again, in place of a new worker; return whether this was possible.

        Without this, if items give their tokens back early, a run with a ledger would start a task
        for two of three items, which would cost a fourth of what the ledger costs.
        """
        if self._closed:
            return False  # noqa: ASYNC910 (the worker ends)
        self._size -= 1
        self.wake()
        try:
            await self._bench.park()
        except BaseException:
            self._size += 1  # it still has to leave
            raise
        self.no_longer_idle()
        return True

    async def queue(self, slot: Slot) -> None:
        """Wait for a token with an item in hand."""
        self.queueing += 1
        try:
            await slot.acquire(self._tokens)
        finally:
            self.queueing -= 1

    def leave(self, slot: Slot) -> None:
        """Note that a worker ends."""
        self._size -= 1
        self.slots.discard(slot)
        self.wake()

    def is_needed(self) -> bool:
        """Whether a worker receives another item while others queue with one each.

        It does not if there are more workers than tokens, as after the limit was lowered:
        the queue would stay, and with it the slow way to a token.
        """
        return self.queueing <= self._reads_ahead or self._size <= self._tokens.total_tokens

    def may_receive(self) -> bool:
        """Whether a worker whose item gave its token back early may receive another one.

        The token may be in use for somebody else's item by now. In that case no item is taken from
        the source before there is a token for it, because the foreman hires nobody before.
        """
        return self._tokens.available_tokens > 0 or self._may_read_ahead()
