"""`Looks`: gets what streams send, once for all streams that send the same.

Twenty open pages get the same messages at the same moments. Each call into the trio run wakes two
threads, which costs more than everything else that a stream does.
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
    """Gets what streams send. It is used only in the event loop of the server."""

    _desk: Desk
    _bridge: Bridge
    _under_way: dict[_Key, _UnderWay] = attrs.field(factory=dict, init=False)

    async def next(self, names: frozenset[str] | None, last: int, due: float) -> Look:
        """Return new events, as soon as there are any, and the state when it is due.

        Args:
          names: the limiters whose state is wanted; ``None`` for all.
          last: the number of the last known event.
          due: when the state is wanted, on the clock of `time.monotonic`.

        Raises:
          Gone, trio.ClosedResourceError: if the turnstile has been closed.
          Busy: if the trio run does not answer.
        """
        key = names, last, due
        while (other := self._under_way.get(key)) is not None:
            await other.ended.wait()
            if other.error is not None:
                raise other.error
            if other.look is not None:
                return other.look
            # The stream that asked was cancelled: ask again.
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
    """A look that streams are waiting for, and its result."""

    ended: anyio.Event = attrs.field(factory=anyio.Event)
    look: Look | None = None
    error: Exception | None = None
