"""Inputs made of other inputs: linked, combined, grouped, or shuffled.

Inputs stay lazy. `Combinations` keeps all but its first source in memory, and `Shuffled`
keeps everything.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Self, final

import trio
from trio.lowlevel import checkpoint

from ._columns import Input
from ._inputs import InputError, Inputs


@final
class Linked:
    """The first inputs of all sources, the second ones, and so on, until one source ends."""

    def __init__(self, sources: Sequence[Inputs[Input]]) -> None:
        self._sources = sources
        self.taken = 0

    @property
    def total(self) -> int | None:
        """How many there are, if that is known of each source."""
        totals = [source.total for source in self._sources]
        known = [total for total in totals if total is not None]
        return min(known) if len(known) == len(totals) else None

    @property
    def error(self) -> InputError | None:
        """The error that a source has raised."""
        return _error(self._sources)

    async def read(self) -> None:
        """Read the sources ahead."""
        await _read_all(self._sources)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        parts = [await anext(source) for source in self._sources]
        self.taken += 1
        return Input.join(parts)


@final
class Combinations:
    """All combinations of the inputs of several sources; the last source varies fastest.

    Args:
      first: the source that stays lazy.
      others: the sources that are kept in memory.
    """

    def __init__(self, first: Inputs[Input], others: Sequence[Inputs[Input]]) -> None:
        self._first = first
        self._others = others
        self._kept: list[list[Input]] | None = None
        self._head: Input | None = None
        self._tails: Iterator[tuple[Input, ...]] = iter(())
        self.taken = 0

    @property
    def total(self) -> int | None:
        """How many there are, if that is known of each source."""
        totals = [source.total for source in (self._first, *self._others)]
        known = [total for total in totals if total is not None]
        return math.prod(known) if len(known) == len(totals) else None

    @property
    def error(self) -> InputError | None:
        """The error that a source has raised."""
        return _error((self._first, *self._others))

    async def read(self) -> None:
        """Read the sources ahead."""
        await _read_all((self._first, *self._others))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        await checkpoint()
        if self._kept is None:
            self._kept = [[each async for each in source] for source in self._others]
        if not all(self._kept):
            raise StopAsyncIteration
        tail = next(self._tails, None)
        if self._head is None or tail is None:
            self._head = await anext(self._first)
            self._tails = product(*self._kept)
            tail = next(self._tails)
        self.taken += 1
        return Input.join((self._head, *tail))


@final
class Groups:
    """Groups of a given number of inputs; the last group may have fewer.

    Args:
      inputs: the inputs.
      size: how many inputs a group has.
    """

    def __init__(self, inputs: Inputs[Input], size: int) -> None:
        self._inputs = inputs
        self._size = size
        self.taken = 0

    @property
    def total(self) -> int | None:
        """How many groups there are, if that is known."""
        total = self._inputs.total
        return None if total is None else -(-total // self._size)

    @property
    def error(self) -> InputError | None:
        """The error that was raised instead of an input."""
        return self._inputs.error

    async def read(self) -> None:
        """Read the inputs ahead."""
        await self._inputs.read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        parts: list[Input] = []
        try:
            while len(parts) < self._size:
                parts.append(await anext(self._inputs))
        except (StopAsyncIteration, OSError, ValueError):
            if not parts:
                raise  # otherwise it is raised again when the next group is asked for
        self.taken += 1
        return Input.join(parts)


@final
class Shuffled:
    """Inputs in random order. All are read before the first is given."""

    def __init__(self, inputs: Inputs[Input]) -> None:
        self._inputs = inputs
        self._order: list[Input] | None = None
        self.taken = 0

    @property
    def total(self) -> int | None:
        """How many there are, if that is known."""
        return self._inputs.total

    @property
    def error(self) -> InputError | None:
        """The error that was raised instead of an input."""
        return self._inputs.error

    async def read(self) -> None:
        """Read the inputs ahead."""
        await self._inputs.read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        await checkpoint()
        if self._order is None:
            order = [each async for each in self._inputs]
            random.shuffle(order)
            self._order = order
        if not self._order:
            raise StopAsyncIteration
        self.taken += 1
        return self._order.pop()


def _error(sources: Sequence[Inputs[Input]]) -> InputError | None:
    return next((source.error for source in sources if source.error is not None), None)


async def _read_all(sources: Sequence[Inputs[Input]]) -> None:
    async with trio.open_nursery() as nursery:
        for source in sources:
            nursery.start_soon(source.read)
