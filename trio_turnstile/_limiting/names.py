"""`Names`: things by name, where a name that is taken gets a number. Sans-I/O.

The second ``"api"`` becomes ``"api-2"``, the third ``"api-3"``. It is always the lowest free
number, so that numbers do not grow for ever. Finding it takes no longer if there are many things
of one name; if it tried each number in turn, adding them all would take quadratic time.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Names(Generic[T]):
    """Things by name, in the order in which they were added."""

    def __init__(self) -> None:
        self.taken: dict[str, T] = {}
        # For each name that was taken twice: the first number that was never looked at,
        # and a heap of lower ones that were given up, some of which may be taken again.
        self._next: dict[str, int] = {}
        self._freed: dict[str, list[int]] = {}

    def first_free(self, name: str) -> str:
        """Return the name, or the name with the lowest number, from 2, that is free."""
        if name not in self.taken:
            return name
        freed = self._freed.setdefault(name, [])
        while freed and f"{name}-{freed[0]}" in self.taken:
            heapq.heappop(freed)
        if freed:
            return f"{name}-{freed[0]}"
        number = self._next.get(name, 2)
        while f"{name}-{number}" in self.taken:
            number += 1
        self._next[name] = number
        return f"{name}-{number}"

    def add(self, name: str, thing: T) -> None:
        """Add a thing under a name that is free."""
        self.taken[name] = thing

    def discard(self, name: str) -> None:
        """Remove the thing of that name: the name is free again."""
        del self.taken[name]
        # Once the first bearer of a name is gone, its numbers need not be remembered.
        self._freed.pop(name, None)
        self._next.pop(name, None)
        base, _, number = name.rpartition("-")
        # Users may choose names that end in any number, however long.
        if number.isdecimal() and len(number) < 10 and int(number) < self._next.get(base, 0):
            self._give_up(base, int(number))

    def _give_up(self, base: str, number: int) -> None:
        freed = self._freed[base]
        heapq.heappush(freed, number)
        if len(freed) > 2 * self._next[base]:  # a number is in it once for each time it was freed
            freed[:] = sorted(set(freed))
