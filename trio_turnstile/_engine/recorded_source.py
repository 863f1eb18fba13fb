"""A source whose items a ledger knows: items that an earlier run has settled are skipped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, final

import attrs
import trio

from trio_turnstile._texts import shown, shown_error

from .buffer import Buffer, failure_of
from .counts import Fate
from .read_ahead import ReadAhead, SourceEnded, receive_from
from .recording import Beginning, Recorder
from .source import RunSource
from .tracing import Settled, Traced, Tracer, token_of, untraced

Identity: TypeAlias = Callable[[Any], str]
"""Returns the text by which a ledger knows an item."""

_DONE = frozenset({Fate.COMPLETED, Fate.DIVERTED})
"""The outcomes with which an item is done. A dead letter has gone to another flow."""

_AT_ONCE = 64
"""The most items that are looked up at once."""


def read_recorded(
    source: RunSource[Any], recorder: Recorder, identity: Identity, tracer: Tracer
) -> ReadAhead[Any]:
    """Return a source that gives the items that are not done, traced, and notes their fates."""
    known = _Known(recorder, identity, tracer)

    async def read(ahead: ReadAhead[Any]) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            if source.feed is not None:
                nursery.start_soon(source.feed)
            try:
                await _read_all(source, known, ahead)
            except SourceEnded:
                pass
            except Exception as error:
                failure = failure_of(error)
            ahead.buffer.close(failure)
            # What the items came from stays open until the last item is through.

    return ReadAhead(read, reads_ahead=source.reads_ahead, lingers=True, beneath=(source,))


async def _read_all(source: RunSource[Any], known: _Known, ahead: ReadAhead[Any]) -> None:
    """Look items up as workers want them, until the end of the source.

    A look-up takes as long as a commit, so one serves all workers that wait. If all of its items
    were done already, the next one looks up twice as many. So items to skip are looked up in
    bulk, and an item seldom begins long before its turn.
    """
    at_once = 1
    while await ahead.buffer.wait_wanted():
        items = deque(await _receive(source, max(at_once, ahead.buffer.wanted)))
        try:
            left = await known.look_up(items, ahead.buffer)
        except Exception as error:
            ahead.buffer.close(failure_of(error))
            for item in items:
                ahead.buffer.put(item)  # nobody works on it, and it is booked as cut off
            return
        at_once = 1 if left else min(2 * at_once, _AT_ONCE)


async def _receive(source: RunSource[Any], most: int) -> list[Any]:
    """Wait for an item, and return it with those that are there already."""
    items = [await receive_from(source)]
    while len(items) < most:
        try:
            items.append(source.receive_nowait())
        except (*source.blocked, *source.ended):
            break  # whoever looks next meets the end again
    return items


@final
@attrs.frozen(eq=False)
class _Known:
    """What a ledger knows of the items."""

    _recorder: Recorder
    _identity: Identity
    _tracer: Tracer

    async def look_up(self, items: deque[Any], buffer: Buffer[Traced]) -> int:
        """Note that items begin, and put those that are not done into the buffer.

        Returns:
          How many those are. After an error, ``items`` has the items that were not looked up.
        """
        names = [self._name(item) for item in items]
        beginnings = await self._recorder.begin(names, "work", _DONE)
        left = 0
        for name, beginning in zip(names, beginnings, strict=True):
            traced = self._trace(items[0], name, beginning)
            del items[0]
            if traced is not None:
                buffer.put(traced)
                left += 1
        return left

    def _name(self, item: Any) -> str:
        name: object = self._identity(untraced(item))
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"the identity of {shown(untraced(item))} is {name!r}, and must be a text: a "
                "ledger knows items by it. Give a function: run(ledger=..., identity=...)"
            )
        return name

    def _trace(self, item: Any, name: str, beginning: Beginning) -> Traced | None:
        if beginning.standing == "doubled":
            raise ValueError(
                f"identity {name!r} came before in this run, and a ledger knows items by it: "
                "give each item an identity of its own"
            )
        token = token_of(name)
        traced = self._tracer.trace(item, partial(self._settled, beginning.number), token)
        if beginning.standing != "done":
            return traced
        self._tracer.skip(traced)
        return None

    def _settled(self, number: int, settled: Settled[Any]) -> None:
        if settled.outcome == "skipped":
            return
        error = settled.error
        text = None if error is None else shown_error(error.__cause__ or error)
        self._recorder.note_end(number, Fate(settled.outcome), text)
