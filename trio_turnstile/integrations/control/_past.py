"""`Past`: reads the history of limiters that is no longer in memory. Used in the trio run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Protocol, final

import attrs
import trio

READ_SECONDS = 3.0
"""How long a chart waits for the database, in seconds; then it is drawn without it."""

_LOG = logging.getLogger("trio_turnstile.control")


class HistoryPoint(Protocol):
    """How busy a limiter was during a short time."""

    @property
    def time(self) -> float:
        """The Unix time at which the short time began, in seconds."""
        ...

    @property
    def limit(self) -> float:
        """The limit, in tokens; ``inf`` for none."""
        ...

    @property
    def running(self) -> float:
        """How many tokens were borrowed, on average."""
        ...

    @property
    def waiting(self) -> float:
        """How many tasks were waiting, on average."""
        ...


class HistoryReader(Protocol):
    """Reads how busy limiters were before the samples in memory, for example from a database."""

    def points(self, limiter: str, since: float, until: float, most: int) -> Sequence[HistoryPoint]:
        """Return how busy a limiter was between two Unix times, oldest first.

        It is called in a worker thread, with one call at a time. It may raise.

        Args:
          limiter: the name of the limiter.
          since: the earliest Unix time of a point, in seconds.
          until: the Unix time before which all points are.
          most: the most points to return.
        """
        ...


@final
@attrs.frozen
class Found:
    """The result of reading."""

    points: Sequence[HistoryPoint] = ()
    missing: str | None = None
    """Why nothing could be read; ``None`` if something could."""


@final
@attrs.define(eq=False)
class Past:
    """Reads in a thread, for a bounded time. Failures there are reported, and harm nothing."""

    _reader: HistoryReader
    # One read at a time; a read that hangs is abandoned, and keeps its turn.
    _thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def read(self, limiter: str, since: float, until: float, most: int) -> Found:
        """Return the history of a limiter between two Unix times."""
        read = partial(self._read, limiter, since, until, most)
        with trio.move_on_after(READ_SECONDS):
            return await trio.to_thread.run_sync(read, limiter=self._thread, abandon_on_cancel=True)
        return Found(missing=f"older samples could not be read within {READ_SECONDS:g} seconds")

    def _read(self, limiter: str, since: float, until: float, most: int) -> Found:
        try:
            return Found(self._reader.points(limiter, since, until, most))
        except Exception as error:
            _LOG.debug("the history of %r cannot be read", limiter, exc_info=True)
            return Found(missing=f"older samples could not be read: {error}")
