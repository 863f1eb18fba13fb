"""The steps whose work is done in one task, item by item.

The first step of such a group needs tokens, a window, an order or batches of its own. The others
need none of these, so they are fused with it: when one of them passes something on, the next takes
it at once, at the cost of a call. What comes out of the last step is put into the outlet: the
inbox of the next stage, or nothing.

A worker pool asks for all this in parts (see `Handler`): `handle` for an item, `recover` after
its error, `follow` with its result, and `leave` at the end, however the item ended. While all goes
well, `handle` takes the item through all the steps, in one coroutine.

`OrderedSteps` passes items on in the order in which they came. `KeyedSteps` takes items of one key
one after the other.

Who books: the pool books the first step's items, from their receipt until the worker is done
with them and with everything that came of them. For every other step both ends are booked here, at
the moment in which an item goes from one step to the next. No step ever waits between the booking
of what one step passed on and of what the next received.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Protocol, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.slot import Slot
from trio_turnstile._util import refuse_stray

from .order import Lanes, Turns
from .step_run import Attempt, StepRun
from .steps import DISCARD, Discarded, Many


class Outlet(Protocol):
    """Where a stage puts what comes out of it."""

    def put_nowait(self, item: Any) -> bool:
        """Put ``item`` in if there is room, and return whether there was."""
        ...

    @property
    def put(self) -> Callable[[Any], Awaitable[object]]:
        """Puts an item in, waiting for room."""
        ...

    async def wait_for_room(self) -> None:
        """Wait until there is room, if that is known."""
        ...

    def close(self) -> None:
        """Note that nothing more will come."""
        ...


_COMPLETED = Fate.COMPLETED
_SPECIAL = frozenset({Many, Fate, Discarded})
"""The types of results that are not simply passed on; a `Fate` means that the item has ended."""


@final
class _Joint:
    """Where an item goes from one fused step straight to the next."""

    __slots__ = ("_before", "_counts", "_index", "function")

    def __init__(self, steps: Sequence[StepRun], index: int) -> None:
        self.function = steps[index].function
        """The function that the next step calls with the item."""
        self._index = index
        self._before = steps[index - 1].counts
        self._counts = steps[index].counts

    @enable_ki_protection
    def cross(self, result: Any, slot: Slot) -> bool:
        """Book that the result of the step before goes into the next, if it does."""
        if type(result) in _SPECIAL:
            return False
        if slot.step:
            self._before.settle(_COMPLETED)
        else:
            slot.release()
            slot.fate = _COMPLETED
        self._before.hand_over(self._counts)
        slot.step, slot.item = self._index, result
        return True


@final
class FusedSteps:
    """Takes items through its steps as they come."""

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None) -> None:
        self._steps = steps
        self._outlet = outlet
        self._last = len(steps) - 1
        self._first = steps[0].function
        self._joints = tuple(_Joint(steps, index) for index in range(1, len(steps)))
        self.handle: Attempt = self._go_through if self._last else steps[0].attempt
        self.leave = self.cut_off if self._last else None

    # As in an attempt, Ctrl-C may strike here at any point: the books are kept in `_Joint.cross`,
    # where it may not. An attempt for each step, in a coroutine that keeps the books, made
    # three fused steps a sixteenth slower.
    @disable_ki_protection
    async def _go_through(self, item: Any, slot: Slot) -> Any:
        """Take the item through all steps, as far as nothing special comes up."""
        try:
            result = await self._first(item)
            for joint in self._joints:
                if not joint.cross(result, slot):
                    return result
                result = await joint.function(result)
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise
        return result

    @disable_ki_protection
    async def _go_through_rest(self, item: Any, slot: Slot) -> Any:
        """Take the item through the step that has it in hand, and those after it."""
        index = slot.step
        try:
            result = await self._joints[index - 1].function(item)
            for joint in self._joints[index:]:
                if not joint.cross(result, slot):
                    return result
                result = await joint.function(result)
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise
        return result

    @enable_ki_protection
    async def recover(self, item: Any, slot: Slot, error: Exception) -> Any:
        """Go on after an error of the step that has the item in hand."""
        try:
            while True:
                index = slot.step
                in_hand = slot.item if index else item
                result = await self._steps[index].recover(in_hand, slot, error)
                if index == self._last or not self._joints[index].cross(result, slot):
                    return result
                try:
                    return await self._go_through_rest(result, slot)
                except Exception as another:
                    error = another
        finally:
            del error  # its traceback holds this frame

    @enable_ki_protection
    def follow(self, result: Any, slot: Slot) -> Awaitable[object] | None:
        """Settle the item and return ``None``, or return an awaitable that will settle it."""
        if type(result) in _SPECIAL:
            if isinstance(result, Many):
                return self._pass_each_on(result, slot)
            self._settle(Fate.DISCARDED if result is DISCARD else result, slot)
            return None
        if self._outlet is not None:
            if not self._outlet.put_nowait(result):
                slot.release()
                return self._put([result], slot, self._outlet)
            self._steps[slot.step].counts.pass_on()
        if slot.step:
            self._settle(_COMPLETED, slot)
        else:  # the same without the call, because this runs for every item
            slot.fate = _COMPLETED
        return None

    def _settle(self, fate: Fate, slot: Slot) -> None:
        """Book how the item ended at the step that has it in hand."""
        if slot.step:
            self._steps[slot.step].counts.settle(fate)
            slot.step, slot.item = 0, None
        else:
            slot.fate = fate  # the pool keeps the books of the first step

    @enable_ki_protection
    def cut_off(self, slot: Slot) -> None:
        """Book the item as cancelled, if any step but the first has it in hand."""
        if slot.step:
            self._steps[slot.step].counts.cancel(slot.item)
            slot.step, slot.item = 0, None

    async def _put(self, items: Sequence[Any], slot: Slot, outlet: Outlet) -> None:
        counts = self._steps[slot.step].counts
        for item in items:
            if not outlet.put_nowait(item):
                await outlet.put(item)
            counts.pass_on()
        self._settle(_COMPLETED, slot)

    async def _pass_each_on(self, many: Many[Any], slot: Slot) -> None:
        slot.release()
        following = slot.step + 1
        if following > self._last and self._outlet is not None:
            return await self._put(many.items, slot, self._outlet)
        origin = self._steps[slot.step].counts
        self._settle(_COMPLETED, slot)
        if following > self._last:
            return
        items = iter(many.items)
        counts = self._steps[following].counts
        try:
            for item in items:
                origin.hand_over(counts)
                await self.go_on(item, Slot(slot.scope), following)
        finally:
            # Their origin is settled as completed, so they cannot end with it: the next
            # step receives and cancels those whose turn did not come.
            for item in items:
                origin.hand_over(counts)
                counts.cancel(item)

    async def go_on(self, item: Any, slot: Slot, index: int) -> None:
        """Take an item that was passed to a later step through that step and the rest."""
        slot.step, slot.item = index, item
        try:
            try:
                result = await self._go_through_rest(item, slot)
            except Exception as error:
                result = await self.recover(item, slot, error)
            rest = self.follow(result, slot)
            if rest is not None:
                await rest
        finally:
            self.cut_off(slot)


@final
class OrderedSteps:
    """Takes items through its first step as they come, and on in the order in which they came."""

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None) -> None:
        self.handle = steps[0].attempt
        self.recover = steps[0].recover
        self._counts = [step.counts for step in steps]
        self._fused = FusedSteps(steps, outlet)
        self._turns = Turns()

    @enable_ki_protection
    async def follow(self, result: Any, slot: Slot) -> None:
        """Settle the item. Its result is passed on only after the results of all earlier items."""
        if not isinstance(result, Fate | Discarded):
            slot.release()
            await self._turns.wait(slot.number)
            if len(self._counts) > 1 and not isinstance(result, Many):
                slot.fate = _COMPLETED
                self._counts[0].hand_over(self._counts[1])
                return await self._fused.go_on(result, slot, 1)
        rest = self._fused.follow(result, slot)
        if rest is not None:
            await rest

    @enable_ki_protection
    def leave(self, slot: Slot) -> None:
        """Give the turn to the next item."""
        self._turns.done(slot.number)


@final
class KeyedSteps:
    """Takes items of one key one after the other, and items of other keys beside them."""

    def __init__(
        self, steps: Sequence[StepRun], outlet: Outlet | None, key: Callable[[Any], Hashable]
    ) -> None:
        fused = FusedSteps(steps, outlet)
        self.handle, self.recover, self.follow = fused.handle, fused.recover, fused.follow
        self._cut_off = fused.cut_off
        self._step = steps[0]
        self._key = key
        self._lanes = Lanes()

    @enable_ki_protection
    async def admit(self, item: Any, slot: Slot) -> bool:
        """Wait until the items of the same key that came before have ended.

        An item without a key is not handled, because another attempt would not give it one.
        """
        try:
            slot.key = self._key(item)
            hash(slot.key)
        except Exception as error:
            slot.fate = await self._step.give_up(error, item, slot)
            return False
        await self._lanes.enter(slot.key)
        return True

    @enable_ki_protection
    def leave(self, slot: Slot) -> None:
        """Let the next item of the same key in."""
        self._cut_off(slot)
        self._lanes.leave(slot.key)
        slot.key = None
