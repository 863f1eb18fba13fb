"""The one engine: room, then an item, then a token, then the work.

Phases and the stages of pipelines both run on a `WorkerPool`. It keeps workers, each of
which goes round: is there room in the window? receive an item; take a token; let the front
end handle the item, which gives the token back before it waits for anything else; book
how the item ended.

Workers live on from item to item, because going round costs a fourth of a new task for each
item. The `Crew` decides when to hire one.

Two numbers bound a pool: tokens, for what runs; and the window, for what runs,
waits for a token, backs off, cleans up, or is finished and not yet passed on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from typing import Generic, TypeVar, final

import trio
from trio.lowlevel import checkpoint, enable_ki_protection

from trio_turnstile._errors import describe, part_cancellation
from trio_turnstile._limiting.allowance import BudgetSpent
from trio_turnstile._limiting.either import Tokens
from trio_turnstile._util import stray

from .buffer import failure_of
from .counts import Counts, Fate
from .crew import Crew
from .door import Door, Refuse, has_token
from .gate import Gate
from .handler import Books, Handler
from .pacing import Pace
from .run_state import RunState
from .slot import Slot
from .source import Source
from .tracing import untraced
from .window import Window

T = TypeVar("T")

_CANCELLED = Fate.CANCELLED


@final
class WorkerPool(Generic[T]):
    """Receives items from a source and has them handled, many at once.

    Args:
      source: where the items come from.
      handler: what to do with an item.
      tokens: an item needs one before it is handled.
      counts: the books of the items, as they are received.
      window: how many items may be in hand.
      state: records the error of a source that fails, or of a closed limiter.
      pace: if given, what an item waits for before its token.
      books: where to book how items end, if not in ``counts``.
      turn: for how many seconds a worker goes on if it need not wait for anything.
      admits_in_turn: whether no item is received while another one is being admitted.
      gate: where an item takes its tokens, if not one of ``tokens``.
      refuse: ends an item that cannot have what it asks for at the gate.
    """

    def __init__(
        self,
        source: Source[T],
        handler: Handler[T],
        tokens: Tokens,
        *,
        counts: Counts,
        window: Window,
        state: RunState,
        pace: Pace | None = None,
        books: Books[T] | None = None,
        turn: float = 0.0,
        admits_in_turn: bool = False,
        gate: Gate | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        self._source = source
        self._handler = handler
        self._tokens = tokens
        self._counts = counts
        self._books: Books[T] = counts if books is None else books
        self._window = window
        self._state = state
        self._pace = pace
        self._turn = turn
        self._admits_in_turn = admits_in_turn
        # A handler with steps after the first gives each token back early, and would tell the
        # foreman of each.
        keeps_tokens = handler.admit is None and handler.leave is None
        self._crew = Crew(tokens, window, reads_ahead=source.reads_ahead, may_claim=keeps_tokens)
        self._source_has_failed = False
        self._door: Door | None = None
        if gate is not None and refuse is not None:
            self._door = Door(gate, refuse, handler.leave, self._crew, source)

    @enable_ki_protection
    async def run(self) -> None:
        """Handle all items; returns when the last one is settled.

        If cancelled, what is in hand is cancelled and booked.
        """
        async with trio.open_nursery() as nursery:
            await self._crew.hire(partial(nursery.start_soon, self._work))

    def close_books(self) -> None:
        """Book as cancelled what was read from the source and never reached a worker."""
        for item in self._source.abandon():
            if not self._source.has_booked:
                self._counts.receive()
            self._books.cancel(item)  # type: ignore[arg-type]

    @property
    def waiting(self) -> int:
        """How many workers wait for a token, with an item in hand that has not begun."""
        return self._crew.queueing

    def stop_source(self) -> None:
        """Receive no more items."""
        self._source.stop()
        # Items that a source has read ahead still come, perhaps to a worker not yet hired.
        if not self._source.reads_ahead:
            self._crew.close()

    # ---- the workers ----

    @enable_ki_protection
    async def _work(self) -> None:
        with trio.CancelScope() as scope:
            crew = self._crew
            crew.no_longer_idle()
            slot = Slot(scope, crew.gave_back)
            try:
                crew.slots.add(slot)
                slot.surround()
                await self._go_round(slot)
            finally:
                crew.leave(slot)

    @enable_ki_protection
    async def _go_round(self, slot: Slot) -> None:  # noqa: PLR0912, PLR0915
        # One long loop: this is all that is done for most items, and a coroutine for each
        # of its parts made a stage of no-ops 1.11 to 1.18 times as slow.
        source, tokens, pace, task = self._source, self._tokens, self._pace, slot.task
        crew = self._crew
        has_booked, receive = source.has_booked, self._counts.receive
        settle = self._books.settle
        handler = self._handler
        admit, handle = handler.admit, handler.handle
        if admit is not None and self._admits_in_turn:
            admit = partial(self._admit_in_turn, admit)
        follow, leave = handler.follow, handler.leave
        acquire, release = tokens.acquire_nowait, tokens.release
        if self._door is not None:
            admit, acquire = partial(self._door.let_in, admit), has_token
        context = copy_context()
        item = result = rest = None
        while not crew.queueing or crew.is_needed():
            try:
                try:
                    item = source.receive_nowait()
                except source.blocked:
                    item = await self._wait_for_item()
            except source.ended:
                return crew.close()
            except Exception as error:
                return self._source_failed(error)
            except trio.Cancelled as cancelled:
                error_of_source = stray(cancelled)
                if error_of_source is None:
                    raise
                return self._source_failed(error_of_source)
            # From here to the end of the `try`, the item is in the books and in this slot.
            slot.number = crew.received = crew.received + 1
            if not has_booked:
                receive()
            slot.fate = _CANCELLED
            held_to_the_end = False
            try:
                if admit is None or await admit(item, slot):
                    try:
                        if (
                            pace is None
                            or pace.enter_nowait(item, slot)
                            or await self._wait_for_pace(pace, item, slot)
                        ):
                            try:
                                acquire(task)
                                slot.held = tokens
                            except trio.WouldBlock:
                                await crew.queue(slot)
                            try:
                                result = await handle(item, slot)
                            except Exception as error:
                                if handler.recover is None:
                                    raise
                                result = await handler.recover(item, slot, error)
                            if follow is not None:
                                rest = follow(result, slot)
                                if rest is not None:
                                    await rest
                    finally:
                        if leave is not None:
                            leave(slot)
            except trio.ClosedResourceError as error:
                self._limiter_closed(error, item)
            except BudgetSpent as error:
                self._budget_spent(error, item)
            except BaseExceptionGroup as group:
                raise self._without_errors(group, item) from None
            finally:
                if pace is not None:
                    pace.leave(slot)
                if slot.fate is _CANCELLED:
                    try:
                        slot.release_cancelled()
                    finally:
                        self._books.cancel(item)
                else:
                    if slot.held is tokens:
                        release(task)
                        slot.held = None
                        held_to_the_end = True
                    elif slot.held is not None:
                        slot.release()
                    settle(slot.fate)
            # A worker that waits for its next item must not keep the last one alive.
            item = result = rest = None
            if crew.short_of_room:
                crew.wake()
            if has_booked and source.waiting:
                source.let_in()
            if slot.cancelled:
                return
            if not (held_to_the_end or crew.may_receive() or await crew.stand_by()):
                return
            if slot.number == crew.received:
                await self._breathe(slot)
            if context != copy_context():  # this compares pointers, while nobody sets a variable
                await self._renew_context(context)

    async def _admit_in_turn(
        self, admit: Callable[[T, Slot], Awaitable[bool]], item: T, slot: Slot
    ) -> bool:
        self._crew.idle()
        try:
            return await admit(item, slot)
        finally:
            self._crew.no_longer_idle()

    async def _wait_for_item(self) -> T:
        self._crew.idle()
        try:
            item = await self._source.receive()
        except BaseException:
            self._crew.no_longer_idle()
            raise
        self._crew.has_received()
        return item

    async def _breathe(self, slot: Slot) -> None:
        """Let others run at the end of a turn, if there may be no other chance to.

        While the item was in hand, no other worker received one. Perhaps the user's function
        never awaits anything. But it may be mere chance, if the last task of one scheduling
        round was the first of the next, so only the second time in a row counts.
        """
        unawaited, slot.unawaited = slot.unawaited, slot.number
        if unawaited != slot.number - 1:
            slot.turn_ends = perf_counter() + self._turn
        elif perf_counter() >= slot.turn_ends:
            await self._yield()
            slot.turn_ends = perf_counter() + self._turn

    async def _renew_context(self, context: Context) -> None:
        """Hide the context variables that an item has set from the next item.

        A task's new context applies from its next checkpoint on. Only users that set variables
        pay: a context for each item would make a stage of no-ops 1.2 times as slow.
        """
        trio.lowlevel.current_task().context = context.copy()
        await self._yield()

    async def _yield(self) -> None:
        self._crew.idle()
        try:
            await checkpoint()
        finally:
            self._crew.no_longer_idle()

    async def _wait_for_pace(self, pace: Pace, item: T, slot: Slot) -> bool:
        # While one worker waits for the rate, another worker could not pass either,
        # so this one counts as idle and the foreman hires nobody.
        self._crew.idle()
        try:
            may_begin = await pace.enter(item, slot)
        finally:
            self._crew.no_longer_idle()
        if may_begin and slot.held is not None:
            slot.held.begin(slot.task)  # so that no policy mistakes the wait for a slow service
        return may_begin

    def _source_failed(self, error: Exception) -> None:
        if self._source_has_failed:  # all workers that wait for an item meet the error
            return
        self._source_has_failed = True
        self._state.stop(describe(failure_of(error), item=None, phase="source"), "soon")

    def _limiter_closed(self, error: trio.ClosedResourceError, item: T) -> None:
        # The error is not of user code (see `Attempts`): a limiter that the item needed was closed.
        self._state.stop(describe(error, item=untraced(item), phase="limiter"), "now")

    def _budget_spent(self, error: BudgetSpent, item: T) -> None:
        if not self._state.stopping:  # else others have met the error
            self._state.stop(describe(error, item=untraced(item), phase="budget"), "soon")

    def _without_errors(self, group: BaseExceptionGroup[BaseException], item: T) -> BaseException:
        """Record what user code raised besides its cancellation; return what to raise."""
        cancelled, errors = part_cancellation(group)
        if errors is not None:
            self._state.record(describe(errors, item=untraced(item), phase="cancellation"))
        return cancelled
