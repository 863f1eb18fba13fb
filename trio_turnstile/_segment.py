"""`Segment`: the steps whose work is done in one task, item by item.

The first step of a segment is the one that needs tokens, a window, an order or
batches. The others need nothing of their own: what one of them passes on, the next
takes on at once, at the cost of a call. What comes out of the last is put into the
outlet: the inbox of the next segment, or nothing.

A `KeyedSegment` lets items of one key go one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Protocol, TypeAlias, final

import attrs
from trio.lowlevel import enable_ki_protection

from ._attempts import Lost
from ._control import Fate
from ._lease import Lease
from ._order import Lanes, Turns
from ._step_run import StepRun
from ._steps import DISCARD, Discard, Discarded, Many


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


@final
class Segment:
    """Handles items as they come; if ordered, they pass on in the order of their coming.

    What the `Stage` asks for is here in parts: `handle` for an item, `recover` after its
    error, `follow` with its result, and `leave` once all is over.
    """

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None, *, ordered: bool) -> None:
        first, *others = steps
        self.handle = first.attempt
        self.recover = first.recover
        self.follow = self._follow_in_turn if ordered else self._follow
        self.leave = self._end_turn if ordered else None
        self._turns = Turns()
        self._others: _Others = ()
        for step in reversed(others):
            looked_up = step, step.attempt, step.counts, step.counts.fates, self._others
            self._others = (looked_up, *self._others)
        self._outlet = outlet

    async def _follow_in_turn(self, result: Any, lease: Lease) -> None:
        if not isinstance(result, Lost | Discarded):
            lease.give_back()
            await self._turns.wait(lease.number)
        rest = self._follow(result, lease)
        if rest is not None:
            await rest

    def _end_turn(self, lease: Lease) -> None:
        self._turns.done(lease.number)

    @enable_ki_protection
    def _follow(self, result: Any, lease: Lease) -> Awaitable[object] | None:
        """Say what became of the item, or return what is left to be done with the result."""
        special = type(result) in _SPECIAL
        if special and not isinstance(result, Many):
            lease.fate = _fate_of(result)
            return None
        if self._others:
            lease.give_back()
            lease.fate = "completed"
            carry = self._carry_each if special else self._carry_on
            return carry(result, lease, self._others)
        if self._outlet is not None:
            lease.give_back()
            if special or not self._outlet.put_nowait(result):
                return self._put(result, lease, self._outlet)
        lease.fate = "completed"
        return None

    async def _put(self, result: Any, lease: Lease, outlet: Outlet) -> None:
        await _put(result, outlet)
        lease.fate = "completed"

    async def _carry_on(self, item: Any, lease: Lease, steps: _Others) -> None:
        """Take an item through so many of the other steps."""
        # All in one loop, as a call for each step would cost as much as the step; and
        # what is in flight is left to be reckoned from the rest, a seventh of its cost.
        outlet = self._outlet
        for step, attempt, counts, fates, rest in steps:
            fate = _CANCELLED
            counts.received += 1
            try:
                try:
                    result = await attempt(item, lease)
                except Exception as error:
                    result = await step.recover(item, lease, error)
                special = type(result) in _SPECIAL
                if special and not isinstance(result, Many):
                    fate = _fate_of(result)
                    return
                if outlet is not None and not rest:
                    await _put(result, outlet)
                fate = _COMPLETED
            finally:
                fates[fate] += 1
                if fate is _CANCELLED:
                    step.cut_off.append(item)
            if special:
                return await self._carry_each(result, lease, rest)
            item = result

    async def _carry_each(self, many: Any, lease: Lease, steps: _Others) -> None:
        if not steps:
            return
        items = iter(many.items)
        try:
            for item in items:
                await self._carry_on(item, lease, steps)
        finally:
            step = steps[0][0]
            for item in items:  # those whose turn did not come
                step.counts.received += 1
                step.counts.fates["cancelled"] += 1
                step.cut_off.append(item)


_Others: TypeAlias = tuple[Any, ...]
_CANCELLED: Fate = "cancelled"
_COMPLETED: Fate = "completed"
_SPECIAL = frozenset({Many, Lost, Discarded})
"""The types of results that are not simply passed on."""


def _fate_of(result: Lost | Discard) -> Fate:
    """Return what has become of an item of which nothing is passed on."""
    return "discarded" if result is DISCARD else result.value


async def _put(result: Any, outlet: Outlet) -> None:
    for item in result.items if isinstance(result, Many) else (result,):
        if not outlet.put_nowait(item):
            await outlet.put(item)


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
        self._first = steps[0]
        self.follow = Segment(steps, outlet, ordered=False).follow
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

    @enable_ki_protection
    async def handle(self, item: Any, lease: Lease) -> Any:
        """Make an attempt at an item; one that has no key fails by the error of the function."""
        if isinstance(lease.ticket, _NoKey):
            raise lease.ticket.error
        return await self._first.attempt(item, lease)

    def recover(self, item: Any, lease: Lease, error: Exception) -> Awaitable[Any]:
        """Go on after the first attempt at an item, as `Attempts.recover` does."""
        return self._first.attempts.recover(item, lease, error, self.handle)

    @enable_ki_protection
    def leave(self, lease: Lease) -> None:
        """Let the next of the same key in."""
        if not isinstance(lease.ticket, _NoKey):
            self._lanes.leave(lease.ticket)
