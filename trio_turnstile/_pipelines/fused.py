"""`FusedSteps`: the steps whose work is done in one task, item by item.

The first step of a fused is the one that needs tokens, a window, an order or
batches. The others need nothing of their own: what one of them passes on, the next
takes on at once, at the cost of a call. What comes out of the last is put into the
outlet: the inbox of the next fused, or nothing.

A `WorkerPool` asks for all this in parts: `handle` for an item, `recover` after its error,
`follow` with its result, and `leave` at the end, whatever came of it. While all goes
well, `handle` takes the item through all the steps, in one coroutine.

An `OrderedSteps` lets the items pass on in the order of their coming; a
`KeyedSteps` lets items of one key go one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Protocol, TypeAlias, final

import attrs
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.attempts import Lost
from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.slot import Slot

from .order import Lanes, Turns
from .step_run import Attempt, StepRun
from .steps import DISCARD, Discard, Discarded, Many


class Outlet(Protocol):
    """Where a fused puts what comes out of it."""

    def put_nowait(self, item: Any) -> bool:
        """Put ``item`` in if there is room, and tell whether there was."""
        ...

    async def put(self, item: Any) -> None:
        """Put ``item`` in, waiting for room."""
        ...

    async def wait_for_room(self) -> None:
        """Wait until there is room, if that can be told."""
        ...

    def close(self) -> None:
        """Say that nothing more will come."""
        ...


_COMPLETED: Fate = "completed"
_SPECIAL = frozenset({Many, Lost, Discarded})
"""The types of results that are not simply passed on."""


def _fate_of(result: Lost | Discard) -> Fate:
    """Return what has become of an item of which nothing is passed on."""
    return "discarded" if result is DISCARD else result.value


Entrance: TypeAlias = Callable[[Any, Slot], bool]


def _entrance(steps: Sequence[StepRun], index: int) -> Entrance:
    counts, before = steps[index].counts, steps[index - 1].counts.fates

    @enable_ki_protection
    def enter(result: Any, slot: Slot) -> bool:
        """Book that the result of the step before goes into this one, if it does."""
        if type(result) in _SPECIAL:
            return False
        if index == 1:
            slot.release()
            slot.fate = _COMPLETED
        else:
            before[_COMPLETED] += 1
        counts.received += 1
        slot.step, slot.item = index, result
        return True

    return enter


def _way_through(steps: Sequence[StepRun], entrances: Sequence[Entrance]) -> Attempt:
    """Return what takes an item through the steps, as far as nothing special comes up."""
    if len(steps) == 1:
        return steps[0].attempt
    first = steps[0].function
    others = [(enter, step.function) for enter, step in zip(entrances, steps[1:], strict=True)]

    # As in an attempt, Ctrl-C may strike here at any point: all books are kept by the
    # entrances, where it may not. An attempt for each step, in a coroutine that keeps the
    # books, would cost three steps a sixteenth.
    @disable_ki_protection
    async def go_through(item: Any, slot: Slot) -> Any:
        result = await first(item)
        for enter, function in others:
            if not enter(result, slot):
                return result
            result = await function(result)
        return result

    return go_through


@final
class FusedSteps:
    """Takes items through its steps as they come."""

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None) -> None:
        self._steps = steps
        self._outlet = outlet
        self._last = len(steps) - 1
        self._entrances = [_entrance(steps, index) for index in range(1, len(steps))]
        self._ways = [_way_through(steps[i:], self._entrances[i:]) for i in range(len(steps))]
        self.handle = self._ways[0]
        self.leave = self.cut_off if self._last else None

    @enable_ki_protection
    async def recover(self, item: Any, slot: Slot, error: Exception) -> Any:
        """Go on after an error of the step that has the item in hand."""
        while True:
            index = slot.step
            result = await self._steps[index].recover(slot.item if index else item, slot, error)
            if index == self._last or not self._entrances[index](result, slot):
                return result
            try:
                return await self._ways[index + 1](result, slot)
            except Exception as another:
                error = another

    @enable_ki_protection
    def follow(self, result: Any, slot: Slot) -> Awaitable[object] | None:
        """Say what became of the item, or return what is left to be done with the result."""
        if type(result) in _SPECIAL:
            if isinstance(result, Many):
                return self._pass_each_on(result, slot)
            self._settle(_fate_of(result), slot)
            return None
        if self._outlet is not None:
            slot.release()
            if not self._outlet.put_nowait(result):
                return self._put([result], slot, self._outlet)
        if slot.step:
            self._settle(_COMPLETED, slot)
        else:  # the same, without the call: this is asked of every item
            slot.fate = _COMPLETED
        return None

    def _settle(self, fate: Fate, slot: Slot) -> None:
        """Book what became of the item at the step that has it in hand."""
        if slot.step:
            self._steps[slot.step].counts.fates[fate] += 1
            slot.step = 0
        else:
            slot.fate = fate  # the stage keeps the books of the first step

    @enable_ki_protection
    def cut_off(self, slot: Slot) -> None:
        """Book the item as cancelled, if any step but the first has it in hand."""
        if slot.step:
            self._steps[slot.step].cut_off.append(slot.item)
            self._settle("cancelled", slot)

    async def _put(self, items: Sequence[Any], slot: Slot, outlet: Outlet) -> None:
        for item in items:
            if not outlet.put_nowait(item):
                await outlet.put(item)
        self._settle(_COMPLETED, slot)

    async def _pass_each_on(self, many: Many[Any], slot: Slot) -> None:
        slot.release()
        following = slot.step + 1
        if following > self._last and self._outlet is not None:
            return await self._put(many.items, slot, self._outlet)
        self._settle(_COMPLETED, slot)
        if following > self._last:
            return
        items = iter(many.items)
        try:
            for item in items:
                await self.go_on(item, Slot(slot.scope), following)
        finally:
            step = self._steps[following]
            for item in items:  # those whose turn did not come
                step.counts.received += 1
                step.counts.fates["cancelled"] += 1
                step.cut_off.append(item)

    async def go_on(self, item: Any, slot: Slot, index: int) -> None:
        """Take an item through the steps from the one of that index, not the first."""
        self._steps[index].counts.received += 1
        slot.step, slot.item = index, item
        try:
            try:
                result = await self._ways[index](item, slot)
            except Exception as error:
                result = await self.recover(item, slot, error)
            rest = self.follow(result, slot)
            if rest is not None:
                await rest
        finally:
            self.cut_off(slot)


@final
class OrderedSteps:
    """Takes items through its first step as they come, and on in the order of their coming."""

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None) -> None:
        self.handle = steps[0].attempt
        self.recover = steps[0].recover
        self._segment = FusedSteps(steps, outlet)
        self._goes_on = len(steps) > 1
        self._turns = Turns()

    @enable_ki_protection
    async def follow(self, result: Any, slot: Slot) -> None:
        """Say what became of the item; if anything comes of it, that waits for its turn."""
        if not isinstance(result, Lost | Discarded):
            slot.release()
            await self._turns.wait(slot.number)
            if self._goes_on and not isinstance(result, Many):
                slot.fate = _COMPLETED
                return await self._segment.go_on(result, slot, 1)
        rest = self._segment.follow(result, slot)
        if rest is not None:
            await rest

    @enable_ki_protection
    def leave(self, slot: Slot) -> None:
        """Give the turn to the next."""
        self._turns.done(slot.number)


@attrs.frozen
class _NoKey:
    """The key function failed."""

    error: Exception


@final
class KeyedSteps:
    """Lets items of one key go one after the other, and those of others beside them."""

    def __init__(
        self, steps: Sequence[StepRun], outlet: Outlet | None, key: Callable[[Any], Hashable]
    ) -> None:
        self._attempts = steps[0].attempts
        self._segment = FusedSteps(steps, outlet)
        self.follow = self._segment.follow
        self._key = key
        self._lanes = Lanes()

    @enable_ki_protection
    async def admit(self, item: Any, slot: Slot) -> None:
        """Wait until the items of the same key that came before are done with."""
        try:
            slot.key = self._key(item)
            hash(slot.key)
        except Exception as error:
            slot.key = _NoKey(error)
            return
        await self._lanes.enter(slot.key)

    def handle(self, item: Any, slot: Slot) -> Awaitable[Any]:
        """Take the item through the steps, if it has a key."""
        if isinstance(slot.key, _NoKey):
            return _raise_ticket(item, slot)
        return self._segment.handle(item, slot)

    def recover(self, item: Any, slot: Slot, error: Exception) -> Awaitable[Any]:
        """Go on after an error of a step, or of the key function."""
        if isinstance(slot.key, _NoKey):
            return self._attempts.recover(item, slot, error, _raise_ticket)
        return self._segment.recover(item, slot, error)

    @enable_ki_protection
    def leave(self, slot: Slot) -> None:
        """Let the next of the same key in."""
        self._segment.cut_off(slot)
        if not isinstance(slot.key, _NoKey):
            self._lanes.leave(slot.key)


async def _raise_ticket(_: Any, slot: Slot) -> Lost:
    assert isinstance(slot.key, _NoKey)
    raise slot.key.error
