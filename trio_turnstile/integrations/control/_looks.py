"""`Looks`: what streams tell, asked for once for all streams that tell the same.

Twenty pages that are open are told the same, at the same moments. Each crossing into the trio run
wakes two threads, which cost more than all else that a stream does.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TypeAlias, final

import anyio
import attrs
import trio

from ._bridge import PATIENCE, Bridge, Busy, Gone
from ._desk import Desk, Look

_Key: TypeAlias = tuple[frozenset[str] | None, int, float]


@final
@attrs.frozen(eq=False)
class Looks:
    """Asks for what there is to be told. It is used in the event loop of the server alone."""

    _desk: Desk
    _bridge: Bridge
    _under_way: dict[_Key, _UnderWay] = attrs.field(factory=dict, init=False)

    async def next(self, names: frozenset[str] | None, last: int, due: float) -> Look:
        """Return what has happened, as soon as something has, and the state when it is due.

        Args:
          names: the limiters whose state is wanted; ``None`` for all.
          last: the number of the last event that is known.
          due: when the state is wanted, on the clock of `time.monotonic`.

        Raises:
          Gone: if the turnstile was left; so does `trio.ClosedResourceError`.
          Busy: if the trio run does not answer.
        """
        key = names, last, due
        while (other := self._under_way.get(key)) is not None:
            await other.ended.wait()
            if other.error is not None:
                raise other.error
            if other.look is not None:
                return other.look
            # The stream that has asked was cancelled: ask again.
        return await self._ask(key)

    async def _ask(self, key: _Key) -> Look:
        mine = self._under_way[key] = _UnderWay()
        _, _, due = key
        try:
            patience = max(0.0, due - monotonic()) + PATIENCE
            mine.look = await self._bridge.wait(partial(self._desk.look, *key), patience)
            return mine.look
        except (Busy, Gone, trio.ClosedResourceError) as error:
            mine.error = error
            raise
        finally:
            del self._under_way[key]
            mine.ended.set()


@final
@attrs.define(eq=False)
class _UnderWay:
    """A look that somebody waits for, and what has come of it."""

    ended: anyio.Event = attrs.field(factory=anyio.Event)
    look: Look | None = None
    error: Exception | None = None
