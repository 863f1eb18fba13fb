"""`Segment`: the steps whose work is done in one task, item by item.

The first step of a segment is the one that needs tokens, a window, an order or
batches. The others need nothing of their own: what one of them passes on, the next
takes on at once, at the cost of a call. What comes out of the last is put into the
outlet: the inbox of the next segment, or nothing.

A `Stage` asks for all this in parts: `handle` for an item, `recover` after its error,
`follow` with its result, and `leave` at the end, whatever came of it. While all goes
well, `handle` takes the item through all the steps, in one coroutine.

An `OrderedSegment` lets the items pass on in the order of their coming; a
`KeyedSegment` lets items of one key go one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Protocol, TypeAlias, final

import attrs
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.attempts import Lost
from trio_turnstile._engine.books import Fate
from trio_turnstile._engine.slot import Lease

from .order import Lanes, Turns
from .step_run import Attempt, StepRun
from .steps import DISCARD, Discard, Discarded, Many


class Outlet(Protocol):
    """Where a segment puts what comes out of it."""

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


Entrance: TypeAlias = Callable[[Any, Lease], bool]


def _entrance(steps: Sequence[StepRun], index: int) -> Entrance:
    counts, before = steps[index].counts, steps[index - 1].counts.fates

    @enable_ki_protection
    def enter(result: Any, lease: Lease) -> bool:
        """Book that the result of the step before goes into this one, if it does."""
        if type(result) in _SPECIAL:
            return False
        if index == 1:
            lease.give_back()
            lease.fate = _COMPLETED
        else:
            before[_COMPLETED] += 1
        counts.received += 1
        lease.step, lease.item = index, result
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
    async def go_through(item: Any, lease: Lease) -> Any:
        result = await first(item)
        for enter, function in others:
            if not enter(result, lease):
                return result
            result = await function(result)
        return result

    return go_through


@final
class Segment:
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
    async def recover(self, item: Any, lease: Lease, error: Exception) -> Any:
        """Go on after an error of the step that has the item in hand."""
        while True:
            index = lease.step
            result = await self._steps[index].recover(lease.item if index else item, lease, error)
            if index == self._last or not self._entrances[index](result, lease):
                return result
            try:
                return await self._ways[index + 1](result, lease)
            except Exception as another:
                error = another

    @enable_ki_protection
    def follow(self, result: Any, lease: Lease) -> Awaitable[object] | None:
        """Say what became of the item, or return what is left to be done with the result."""
        if type(result) in _SPECIAL:
            if isinstance(result, Many):
                return self._pass_each_on(result, lease)
            self._settle(_fate_of(result), lease)
            return None
        if self._outlet is not None:
            lease.give_back()
            if not self._outlet.put_nowait(result):
                return self._put([result], lease, self._outlet)
        if lease.step:
            self._settle(_COMPLETED, lease)
        else:  # the same, without the call: this is asked of every item
            lease.fate = _COMPLETED
        return None

    def _settle(self, fate: Fate, lease: Lease) -> None:
        """Book what became of the item at the step that has it in hand."""
        if lease.step:
            self._steps[lease.step].counts.fates[fate] += 1
            lease.step = 0
        else:
            lease.fate = fate  # the stage keeps the books of the first step

    @enable_ki_protection
    def cut_off(self, lease: Lease) -> None:
        """Book the item as cancelled, if any step but the first has it in hand."""
        if lease.step:
            self._steps[lease.step].cut_off.append(lease.item)
            self._settle("cancelled", lease)

    async def _put(self, items: Sequence[Any], lease: Lease, outlet: Outlet) -> None:
        for item in items:
            if not outlet.put_nowait(item):
                await outlet.put(item)
        self._settle(_COMPLETED, lease)

    async def _pass_each_on(self, many: Many[Any], lease: Lease) -> None:
        lease.give_back()
        following = lease.step + 1
        if following > self._last and self._outlet is not None:
            return await self._put(many.items, lease, self._outlet)
        self._settle(_COMPLETED, lease)
        if following > self._last:
            return
        items = iter(many.items)
        try:
            for item in items:
                await self.go_on(item, Lease(lease.scope), following)
        finally:
            step = self._steps[following]
            for item in items:  # those whose turn did not come
                step.counts.received += 1
                step.counts.fates["cancelled"] += 1
                step.cut_off.append(item)

    async def go_on(self, item: Any, lease: Lease, index: int) -> None:
        """Take an item through the steps from the one of that index, not the first."""
        self._steps[index].counts.received += 1
        lease.step, lease.item = index, item
        try:
            try:
                result = await self._ways[index](item, lease)
            except Exception as error:
                result = await self.recover(item, lease, error)
            rest = self.follow(result, lease)
            if rest is not None:
                await rest
        finally:
            self.cut_off(lease)


@final
class OrderedSegment:
    """Takes items through its first step as they come, and on in the order of their coming."""

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None) -> None:
        self.handle = steps[0].attempt
        self.recover = steps[0].recover
        self._segment = Segment(steps, outlet)
        self._goes_on = len(steps) > 1
        self._turns = Turns()

    @enable_ki_protection
    async def follow(self, result: Any, lease: Lease) -> None:
        """Say what became of the item; if anything comes of it, that waits for its turn."""
        if not isinstance(result, Lost | Discarded):
            lease.give_back()
            await self._turns.wait(lease.number)
            if self._goes_on and not isinstance(result, Many):
                lease.fate = _COMPLETED
                return await self._segment.go_on(result, lease, 1)
        rest = self._segment.follow(result, lease)
        if rest is not None:
            await rest

    @enable_ki_protection
    def leave(self, lease: Lease) -> None:
        """Give the turn to the next."""
        self._turns.done(lease.number)


@attrs.frozen
class _NoKey:
    """The key function failed."""

    error: Exception


@final
class KeyedSegment:
    """Lets items of one key go one after the other, and those of others beside them."""

    def __init__(
        self, steps: Sequence[StepRun], outlet: Outlet | None, key: Callable[[Any], Hashable]
    ) -> None:
        self._attempts = steps[0].attempts
        self._segment = Segment(steps, outlet)
        self.follow = self._segment.follow
        self._key = key
        self._lanes = Lanes()

    @enable_ki_protection
    async def admit(self, item: Any, lease: Lease) -> None:
        """Wait until the items of the same key that came before are done with."""
        try:
            lease.ticket = self._key(item)
            hash(lease.ticket)
        except Exception as error:
            lease.ticket = _NoKey(error)
            return
        await self._lanes.enter(lease.ticket)

    def handle(self, item: Any, lease: Lease) -> Awaitable[Any]:
        """Take the item through the steps, if it has a key."""
        if isinstance(lease.ticket, _NoKey):
            return _raise_ticket(item, lease)
        return self._segment.handle(item, lease)

    def recover(self, item: Any, lease: Lease, error: Exception) -> Awaitable[Any]:
        """Go on after an error of a step, or of the key function."""
        if isinstance(lease.ticket, _NoKey):
            return self._attempts.recover(item, lease, error, _raise_ticket)
        return self._segment.recover(item, lease, error)

    @enable_ki_protection
    def leave(self, lease: Lease) -> None:
        """Let the next of the same key in."""
        self._segment.cut_off(lease)
        if not isinstance(lease.ticket, _NoKey):
            self._lanes.leave(lease.ticket)


async def _raise_ticket(_: Any, lease: Lease) -> Lost:
    assert isinstance(lease.ticket, _NoKey)
    raise lease.ticket.error
