"""The one engine: room, then an item, then a token, then the work.

Phases and pipeline stages both run on a `WorkerPool`. It keeps workers, each of which
goes round: is there room in the window? take an item; take a token; let the front
end handle the item, which gives the token back before it waits for anything else;
count what became of the item.

Workers live on from item to item, as a worker that goes round costs a fourth of a
new task for each item. They are hired one by one, by the *foreman*, when there is
a token free and nobody looking for an item. A foreman would have to look at every
token given back; instead he looks once a scheduling round while items flow, and
queues at the limiter like everyone else when they do not. So a raised limit, or a
token given back by a stranger who shares the limiter, is noticed at once, and the
queue of a busy limiter stays empty, which keeps the non-blocking way in open.

Two numbers bound a stage: tokens, for what runs; and the window, for what runs,
waits for a token, backs off, cleans up, or is finished and not yet passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar, cast, final

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from trio_turnstile._errors import describe, part_cancellation
from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._limiting.limiter import Limiter
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._util import check_whole

from .counts import Counts, Fate
from .run_state import RunState
from .slot import CUT_OFF, Slot
from .sources import ENDED, Source

T = TypeVar("T")

_NOT_YET: Fate = "cancelled"
"""What became of an item of which nothing better can be said."""

WINDOW_SLACK = 64
"""How much wider than the limit a window is, unless the user says otherwise.

A worker more is hired only for a free token, so that slack costs nothing until
items back off, clean up or wait to be passed on; then it is what goes on beside."""


@final
class WorkerPool(Generic[T]):
    """Takes items from a source and has each of them handled, many at a time.

    Args:
      source: where the items come from.
      handle: handles one item, holding a token by the slot at the start. It sets
        ``slot.fate``, unless there is a ``follow`` that does, and gives the token back
        before it waits for anything.
      limiter: what an item needs a token of before it is handled.
      state: is told of the error of a source that fails, or of a closed limiter.
      admit: if given, what an item has to wait for before its token.
      recover: if given, what goes on after an error of ``handle``, and returns in its place.
      follow: if given, is told what ``handle`` returned. It sets ``slot.fate``, or
        returns what has to be awaited until it is set.
      leave: if given, is told of the end of all that, whatever came of it.
      rate: if given, how many items may be begun each second.
      window: the most items in hand; ``None`` for the limits plus a little.
      limits: the limiters that the default window follows.
      counts: where to keep the books, if somebody else has made them.
    """

    def __init__(
        self,
        source: Source[T],
        handle: Callable[[T, Slot], Awaitable[object]],
        limiter: AnyLimiter,
        *,
        state: RunState,
        admit: Callable[[T, Slot], Awaitable[object]] | None = None,
        recover: Callable[[T, Slot, Exception], Awaitable[object]] | None = None,
        follow: Callable[[Any, Slot], Awaitable[object] | None] | None = None,
        leave: Callable[[Slot], object] | None = None,
        rate: RateLimiter | None = None,
        window: int | None = None,
        limits: Sequence[AnyLimiter] = (),
        counts: Counts | None = None,
    ) -> None:
        if window is not None:
            check_whole("window", window, 1)
        self.counts = counts or Counts()
        self.cut_off: list[T] = []
        """The items that were in hand when they were cancelled."""
        self.certain_room = WINDOW_SLACK if window is None else window
        """How many items the window has room for, whatever the limits."""
        self.on_room: Callable[[], None] | None = None
        """Called after each item that met its fate, by whom waits for room."""
        self._source = source
        self._handle = handle
        self._limiter = limiter
        if isinstance(limiter, Limiter):
            # The foreman goes round what the limiter learns from calls: he makes none.
            self._sack, self._give_back = limiter._sack, limiter._give_back
        else:
            self._sack, self._give_back = limiter, limiter.release_on_behalf_of
        self._state = state
        self._admit = admit
        self._recover = recover
        self._follow = follow
        self._leave = leave
        self._rate = rate
        self._window = window
        self._limits = tuple(limits) or (limiter,)
        self._workers = 0
        self._idle = 0
        self._queueing = 0
        self._foreman = trio.CancelScope()
        self._foreman_lot = trio.lowlevel.ParkingLot()
        self._foreman_rests = False

    @property
    def window(self) -> float:
        """How many items may be in hand at a time."""
        if self._window is not None:
            return self._window
        return sum(limiter.total_tokens for limiter in self._limits) + WINDOW_SLACK

    async def run(self) -> None:
        """Handle all items; returns when the last has met its fate.

        If cancelled, what is in hand is cancelled and accounted for.
        """
        async with trio.open_nursery() as nursery:
            if self._source.feed is not None:
                nursery.start_soon(self._source.feed)
            await self._hire(nursery)

    def close_books(self) -> None:
        """Book as cancelled what was read from the source, and no worker took any more."""
        for item in self._source.abandon():
            self.counts.received += 1
            self.counts.fates["cancelled"] += 1
            self.cut_off.append(cast("T", item))

    def stop_source(self) -> None:
        """Take no more items."""
        self._source.stop()
        if not self._source.reads_ahead:
            self._foreman.cancel()

    # ---- the foreman ----

    async def _hire(self, nursery: trio.Nursery) -> None:
        seen = -1
        with self._foreman:
            while True:
                if self._idle or self._workers >= self.window:
                    self._foreman_rests = True
                    await self._foreman_lot.park()
                    self._foreman_rests = False
                elif self._sack.available_tokens > 0 or self._may_read_ahead():
                    self._take_on(nursery)
                elif seen != self.counts.received:
                    seen = self.counts.received
                    await checkpoint()
                else:
                    await self._sack.acquire_on_behalf_of(self)
                    self._give_back(self)
                    # Not after another look: a second foreman may have the token by
                    # now, and two would pass it to and fro, each finding none.
                    if not (self._queueing or self._idle) and self._workers < self.window:
                        self._take_on(nursery)

    def _take_on(self, nursery: trio.Nursery) -> None:
        self._workers += 1
        self._idle += 1
        nursery.start_soon(self._work)

    def _may_read_ahead(self) -> bool:
        return self._source.reads_ahead and not self._queueing

    # ---- the workers ----

    @enable_ki_protection
    async def _work(self) -> None:
        with trio.CancelScope() as scope:
            self._no_longer_idle()
            try:
                await self._go_round(Slot(scope))
            finally:
                self._workers -= 1
                self._foreman_lot.unpark()

    @enable_ki_protection
    async def _go_round(self, slot: Slot) -> None:  # noqa: PLR0912, PLR0915
        # One long loop: this is all that is done for most items, and a call for each
        # of its parts would make it a tenth slower. That is also why what the front end
        # does comes in parts: a coroutine round them would cost a twentieth.
        counts, fates = self.counts, self.counts.fates
        source, limiter, handle = self._source, self._limiter, self._handle
        admit, rate, follow, leave = self._admit, self._rate, self._follow, self._leave
        acquire, release = limiter.acquire_on_behalf_of_nowait, limiter.release_on_behalf_of
        while not self._queueing or self._is_needed():
            try:
                try:
                    item = source.receive_nowait()
                except trio.WouldBlock:
                    item = await self._wait_for_item()
            except ENDED:
                return self._foreman.cancel()
            except Exception as error:
                return self._source_failed(error)
            slot.number = counts.received = counts.received + 1
            counts.in_flight += 1
            slot.fate = _NOT_YET
            try:
                if admit is not None:
                    await admit(item, slot)
                if rate is not None:
                    await self._wait_for_rate(rate)
                try:
                    acquire(slot)
                    slot.held = limiter
                except trio.WouldBlock:
                    await self._wait_for_token(slot)
                try:
                    try:
                        result = await handle(item, slot)
                    except Exception as error:
                        if self._recover is None:
                            raise
                        result = await self._recover(item, slot, error)
                    if follow is not None:
                        rest = follow(result, slot)
                        if rest is not None:
                            await rest
                finally:
                    if leave is not None:
                        leave(slot)
            except trio.ClosedResourceError as error:
                # The user's errors are caught in Attempts: this is a limiter's.
                closed = describe(error, item=item, phase="limiter")
                self._state.record(closed)
                self._state.stop(closed, "now")
            except BaseExceptionGroup as group:
                cancelled, errors = part_cancellation(group)
                if errors is not None:
                    self._state.record(describe(errors, item=item, phase="cancellation"))
                raise cancelled from None
            finally:
                if slot.fate == "cancelled":
                    slot.release(CUT_OFF)
                    self.cut_off.append(item)
                elif slot.held is limiter:
                    release(slot)
                    slot.held = None
                counts.in_flight -= 1
                fates[slot.fate] += 1
            if self._foreman_rests:
                self._foreman_lot.unpark()
            if self.on_room is not None:
                self.on_room()
            if slot.cancelled:
                return
            if slot.number == counts.received:
                await self._breathe(slot)

    def _is_needed(self) -> bool:
        """Whether to take another item while other workers queue with one each.

        Not with more workers than tokens, as after the limit was lowered: the
        queue would stay, and with it the slow way to a token.
        """
        ahead = 1 if self._source.reads_ahead else 0
        return self._queueing <= ahead or self._workers <= self._sack.total_tokens

    async def _wait_for_item(self) -> T:
        self._idle += 1
        try:
            return await self._source.receive()
        finally:
            self._no_longer_idle()

    async def _breathe(self, slot: Slot) -> None:
        """Let others run, if there may be no other chance to.

        While the item was in hand nobody took another. Perhaps the user's function
        never awaits anything. But it may be mere luck, the last of one scheduling
        round being the first of the next, so only the second time in a row counts.
        """
        unawaited, slot.unawaited = slot.unawaited, slot.number
        if unawaited != slot.number - 1:
            return
        self._idle += 1
        try:
            await checkpoint()
        finally:
            self._no_longer_idle()

    def _no_longer_idle(self) -> None:
        self._idle -= 1
        if self._foreman_rests:
            self._foreman_lot.unpark()

    async def _wait_for_rate(self, rate: RateLimiter) -> None:
        # Nobody could pass before, so another worker with another item is no help.
        self._idle += 1
        try:
            await rate.acquire()
        finally:
            self._no_longer_idle()

    async def _wait_for_token(self, slot: Slot) -> None:
        self._queueing += 1
        try:
            await slot.acquire(self._limiter)
        finally:
            self._queueing -= 1

    def _source_failed(self, error: Exception) -> None:
        failed = describe(error, item=None, phase="source")
        self._state.record(failed)
        self._state.stop(failed, "soon")
