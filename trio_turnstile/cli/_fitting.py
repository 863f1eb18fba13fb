"""``-X`` and ``-m``: as many inputs for one operation as fit into its commands."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Self, final

from ._columns import Input
from ._inputs import InputError, Inputs
from ._template import Template

_LONGEST = 130_000
"""The most bytes of a command by default: Linux takes 131,071 as one argument of the shell."""

_SHARE = 4
"""A command may take a quarter of what the system allows for all arguments together: its inputs
are in the environment too, and the shell passes both to a program, with a pointer for each word."""


def room_for_command(environment: Mapping[str, str]) -> int:
    """Return how many bytes a command may have on this system."""
    used = sum(len(os.fsencode(name + value)) + 10 for name, value in environment.items())
    return max(min(_LONGEST, (os.sysconf("SC_ARG_MAX") - used) // _SHARE), 1)


@final
class Fitted:
    """Groups of inputs, each as large as fits into the commands.

    The last inputs are shared out evenly.

    Args:
      inputs: the inputs.
      commands: the commands.
      room: how many bytes each command may have.
      most: the most inputs of a group; ``None`` for any number.
      shares: among how many operations the last inputs are shared out.
    """

    def __init__(
        self,
        inputs: Inputs[Input],
        commands: Sequence[Template],
        *,
        room: int,
        most: int | None,
        shares: int,
    ) -> None:
        self._inputs = inputs
        self._commands = commands
        self._room = room
        self._most = math.inf if most is None else most
        self._shares = shares
        self._ahead: list[Input] = []
        self._sizes: list[int] = []  # of the commands with all inputs ahead
        self._end: InputError | StopAsyncIteration | None = None
        self._used = 0
        self.taken = 0
        self.total: int | None = None
        self.error: InputError | None = None

    async def read(self) -> None:
        """Read the inputs ahead."""
        await self._inputs.read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Input:
        while self._end is None and not self._has_more_than_fits():
            await self._look_further()
        if not self._ahead:
            assert self._end is not None
            self.total, self.error = self.taken, self._inputs.error
            raise self._end
        count = self._count_fitting()
        group, left = self._ahead[:count], self._ahead[count:]
        self._ahead, self._sizes = [], []
        for each in left:
            self._add(each)
        self._used += count
        self.taken += 1
        return Input.join(group)

    async def _look_further(self) -> None:
        try:
            self._add(await anext(self._inputs))
        except (StopAsyncIteration, OSError, ValueError) as end:
            self._end = end  # raised after all inputs before it
            self._most = min(self._most, max(-(-len(self._ahead) // self._shares), 1))

    def _add(self, given: Input) -> None:
        number = self.taken + 1
        if not self._ahead:
            self._sizes = [each.size(given, number) for each in self._commands]
        else:
            growths = [each.growth(given, number) for each in self._commands]
            self._sizes = list(map(sum, zip(self._sizes, growths, strict=True)))
        self._ahead.append(given)

    def _has_more_than_fits(self) -> bool:
        return len(self._ahead) > self._most or max(self._sizes, default=0) > self._room

    def _count_fitting(self) -> int:
        """Return how many inputs to take; a negative column can make that a little less."""
        count = int(min(len(self._ahead) - self._has_more_than_fits(), self._most)) or 1
        while self._size(count) > self._room:
            if count == 1:
                self.error = ValueError(
                    f"input {self._used + 1} makes a command of {self._size(1)} bytes, but a "
                    f"command may have {self._room}: raise --max-chars, or pass the text in a file"
                )
                raise self.error
            count = max(count * 9 // 10, 1)
        return count

    def _size(self, count: int) -> int:
        given, number = Input.join(self._ahead[:count]), self.taken + 1
        return max(each.size(given, number) for each in self._commands)
