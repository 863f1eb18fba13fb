"""`Room`: submissions wait while the site has no room, and only one of them tries again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._calls import NOT_MADE
from ._engine import Answer, Busy, Refused
from ._tracking import Tracker

_LEAST: Final = 1.0
_MOST: Final = 60.0
"""The shortest and the longest time between two tries while the site has no room, in seconds."""

GIVEN_UP: Final = Refused(NOT_MADE.said)


@final
@attrs.define(eq=False)
class Room:
    """Whether a site takes more jobs.

    While it does not, submissions try again one at a time: soon after one of our jobs has ended,
    or else after a pause that doubles from a second to a minute.
    """

    _tracker: Tracker
    _turn: trio.StrictFIFOLock = attrs.field(init=False, factory=trio.StrictFIFOLock)
    _full: bool = attrs.field(init=False, default=False)
    _pause: float = attrs.field(init=False, default=_LEAST)

    async def submit(
        self,
        attempt: Callable[[Callable[[], bool]], Awaitable[Answer]],
        wanted: Callable[[], bool],
    ) -> Answer:
        """Attempt a submission, and repeat it while there is no room.

        Args:
          attempt: takes a function, and asks it right before the call whether to submit. If not,
            it returns `GIVEN_UP`.
          wanted: says whether the submission is still wanted.
        """

        def should() -> bool:
            return wanted() and not self._turn.locked()

        answer = await attempt(should)
        if isinstance(answer, Busy):
            self._full = True
        elif answer is not GIVEN_UP:
            return answer
        async with self._turn:
            while wanted():
                if self._full:
                    await self._wait()
                answer = await attempt(wanted)
                self._full = isinstance(answer, Busy)
                if not self._full:
                    self._pause = _LEAST
                    return answer
        return GIVEN_UP

    @enable_ki_protection
    async def _wait(self) -> None:
        freed = self._tracker.freed
        await trio.sleep(_LEAST)
        with trio.move_on_after(self._pause - _LEAST):
            await freed.wait()
        self._pause = min(2 * self._pause, _MOST)
