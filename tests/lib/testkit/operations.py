"""Operations that call a function, as the steps of a pipeline do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from trio_turnstile import Scalable

Work: TypeAlias = Callable[[int], Any]
"""An async function that takes the number of an operation or an item."""


class Operation(Scalable):
    """Calls the function with its number."""

    def __init__(self, number: int, work: Work) -> None:
        self.number = number
        self._work = work

    async def work(self, channels: object) -> None:
        """Call the function."""
        await self._work(self.number)
