"""`Segment`: the steps whose work is done in one task, item by item.

The first step of a segment is the one that needs tokens, a window, an order or
batches. The others need nothing of their own: what one of them passes on, the next
takes on at once, at the cost of a call. What comes out of the last is put into the
outlet: the inbox of the next segment, or nothing.

A `KeyedSegment` lets items of one key go one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, final

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
    """Handles items as they come; if ordered, they pass on in the order of their coming."""

    admit = None

    def __init__(self, steps: Sequence[StepRun], outlet: Outlet | None, *, ordered: bool) -> None:
        self._first, *self._others = steps
        # What the loop over them needs of each, looked up once.
        self._carriers = [(s, s.attempt, s.counts, s.counts.fates) for s in self._others]
        self._outlet = outlet
        self._turns = Turns() if ordered else None

    @enable_ki_protection
    async def handle(self, item: Any, lease: Lease) -> None:
        """Take the item through the steps, as the `Stage` asks."""
        first, turns, number = self._first, self._turns, lease.number
        try:
            try:
                result = await first.attempt(item, lease)
            except Exception as error:
                result = await first.attempts.recover(item, lease, error, first.attempt)
            special = type(result) in _SPECIAL
            if special and not isinstance(result, Many):
                lease.fate = _fate_of(result)
                return
            if turns is not None:
                lease.give_back()
                await turns.wait(number)
            if self._others:
                lease.give_back()
                lease.fate = "completed"
                if special:
                    return await self._carry_each(result, lease, 0)
                return await self._carry_on(result, lease, 0)
            if self._outlet is not None:
                lease.give_back()
                await _put(result, self._outlet)
            lease.fate = "completed"
        finally:
            if turns is not None:
                turns.done(number)

    async def _carry_on(self, item: Any, lease: Lease, begin: int) -> None:
        """Take an item through the steps from ``begin``."""
        # All in one loop, as a call for each step would cost as much as the step; and
        # what is in flight is left to be reckoned from the rest, a seventh of its cost.
        outlet, last = self._outlet, len(self._others) - 1
        for index in range(begin, last + 1):
            step, attempt, counts, fates = self._carriers[index]
            fate = _CANCELLED
            counts.received += 1
            try:
                try:
                    result = await attempt(item, lease)
                except Exception as error:
                    result = await step.attempts.recover(item, lease, error, attempt)
                special = type(result) in _SPECIAL
                if special and not isinstance(result, Many):
                    fate = _fate_of(result)
                    return
                if index == last and outlet is not None:
                    await _put(result, outlet)
                fate = _COMPLETED
            finally:
                fates[fate] += 1
                if fate is _CANCELLED:
                    step.cut_off.append(item)
            if special:
                return await self._carry_each(result, lease, index + 1)
            item = result

    async def _carry_each(self, many: Any, lease: Lease, begin: int) -> None:
        if begin == len(self._others):
            return
        items = iter(many.items)
        try:
            for item in items:
                await self._carry_on(item, lease, begin)
        finally:
            step = self._others[begin]
            for item in items:  # those whose turn did not come
                step.counts.received += 1
                step.counts.fates["cancelled"] += 1
                step.cut_off.append(item)


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
        self._attempts = steps[0].attempts
        self._segment = Segment(steps, outlet, ordered=False)
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
    async def handle(self, item: Any, lease: Lease) -> None:
        """Take the item through the steps, and let the next of its key in."""
        key = lease.ticket
        if isinstance(key, _NoKey):
            lost = await self._attempts.recover(item, lease, key.error, _raise_ticket)
            lease.fate = lost.value
            return
        try:
            await self._segment.handle(item, lease)
        finally:
            self._lanes.leave(key)


async def _raise_ticket(_: Any, lease: Lease) -> Lost:
    assert isinstance(lease.ticket, _NoKey)
    raise lease.ticket.error
