"""`Canceller`: cancels jobs, many with one call."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, final

import attrs
import trio

from ._calls import Calls
from ._engine import Engine

_AT_ONCE: Final = 1000
"""How many jobs one call may cancel; more make command lines that some systems refuse."""

_GATHERING: Final = 0.05
"""Seconds in which cancellations gather, for one call."""

_PAUSE: Final = 5.0
"""Seconds to wait after a call without an answer."""


@final
@attrs.define(eq=False)
class Canceller:
    """Cancels jobs, many with one call."""

    _engine: Engine
    _calls: Calls
    _numbers: dict[str, None] = attrs.field(init=False, factory=dict)
    _posted: trio.Event = attrs.field(init=False, factory=trio.Event)
    _calling: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    def post(self, numbers: Iterable[str]) -> None:
        """Cancel jobs soon."""
        self._numbers |= dict.fromkeys(numbers)
        if self._numbers:
            self._posted.set()

    async def run(self) -> None:
        """Cancel jobs that are posted, for ever."""
        while True:
            await self._posted.wait()
            await trio.sleep(_GATHERING)
            await self.flush()

    async def flush(self) -> None:
        """Cancel the posted jobs now, and wait for calls that are under way."""
        async with self._calling:
            while numbers := list(islice(self._numbers, _AT_ONCE)):
                for number in numbers:
                    del self._numbers[number]
                if await self._calls.ask(self._engine.cancel(numbers)) is None:
                    self.post(numbers)
                    await trio.sleep(_PAUSE)
            self._posted = trio.Event()
