"""`Names`: things by name, where a name that is taken gets a number. Sans-I/O.

The second ``"api"`` becomes ``"api-2"``, the third ``"api-3"``. It is always the lowest
number that is free, and finding it does not take longer the more there are: to try each
number in turn would make many things of one name quadratic.
"""

from __future__ import annotations

import heapq
import re
from typing import Generic, TypeVar, final

import attrs

T = TypeVar("T")

_NUMBERED = re.compile(r"(.*)-([1-9][0-9]{0,8})", re.DOTALL)


@final
@attrs.define(eq=False)
class _Numbers:
    """Which numbers of one name may be free: those in ``freed``, and ``next`` and above.

    No other number is free, but some of these may be taken, as a user may also ask for
    ``"api-2"`` by that very name.
    """

    next: int = 2
    freed: list[int] = attrs.field(factory=list)
    """A heap of numbers below ``next``."""
    listed: set[int] = attrs.field(factory=set)
    """The numbers in the heap, none of which is there twice."""

    def free(self, number: int) -> None:
        """Put a number that was given up on the heap."""
        if number < self.next and number not in self.listed:
            heapq.heappush(self.freed, number)
            self.listed.add(number)

    def drop_first(self) -> None:
        """Take the lowest number off the heap: it is taken."""
        self.listed.remove(heapq.heappop(self.freed))


@final
class Names(Generic[T]):
    """Things by name, in the order in which they were added."""

    def __init__(self) -> None:
        self.taken: dict[str, T] = {}
        self._numbers: dict[str, _Numbers] = {}

    def first_free(self, name: str) -> str:
        """Return the name, or the name with the lowest number, from 2, that is free."""
        if name not in self.taken:
            return name
        numbers = self._numbers.setdefault(name, _Numbers())
        while numbers.freed:
            candidate = f"{name}-{numbers.freed[0]}"
            if candidate not in self.taken:
                return candidate
            numbers.drop_first()
        while f"{name}-{numbers.next}" in self.taken:
            numbers.next += 1
        return f"{name}-{numbers.next}"

    def add(self, name: str, thing: T) -> None:
        """Add a thing under a name that is free."""
        self.taken[name] = thing

    def discard(self, name: str) -> None:
        """Remove the thing of that name: the name is free again."""
        del self.taken[name]
        numbered = _NUMBERED.fullmatch(name)
        if numbered is None or numbered[1] not in self._numbers:
            return
        numbers = self._numbers[numbered[1]]
        numbers.free(int(numbered[2]))
        if len(numbers.freed) == numbers.next - 2:  # none is taken: nothing to remember
            del self._numbers[numbered[1]]
