"""`record_statistics`: records a turnstile while a block runs."""

from __future__ import annotations

import math
import os
import re
import shlex
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, final

import trio

from trio_turnstile import Turnstile

from ._patience import Patience
from ._recorder import Recorder, RecorderStatistics
from ._rows import Row, text

if TYPE_CHECKING:
    from ._writer import Writer

DAY = 86_400.0

_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s@]*@")
"""A password in an address on the command line, which readers of the database must not see."""

GRACE = 5.0
"""Seconds after which the end of a recording gives up a database that accepts nothing."""


@final
class Recording:
    """A turnstile that is being recorded; `record_statistics` makes it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def statistics(self) -> RecorderStatistics:
        """Return how the recording goes."""
        return self._recorder.statistics()

    async def flush(self) -> None:
        """Store everything recorded so far, if the database is available. Never fails.

        Cancellation:
          The records are stored the next time.
        """
        await self._recorder.flush()


@asynccontextmanager
async def record_statistics(
    turnstile: Turnstile,
    url: str = "sqlite:///turnstile.db",
    *,
    every: float = 10.0,
    keep_samples: float = DAY,
    keep_minutes: float = 90 * DAY,
    buffer: int = 100_000,
) -> AsyncIterator[Recording]:
    """Store statistics of a turnstile in a database while a block runs.

    A thread stores samples and averages of every limiter, every decision, and every run with its
    counts and errors::

        async with open_turnstile() as turnstile, record_statistics(turnstile):
            ...

    Several programs may share a database. The work never waits for it: while the database is
    unavailable, records are kept in memory, and stored later.

    Args:
      turnstile: the turnstile to record.
      url: the database: ``sqlite:///FILE``, or ``postgresql://USER:PASSWORD@HOST/DATABASE``,
        which also needs psycopg (the extra ``postgres``). Missing tables are made.
      every: seconds from one writing to the next. A program that is killed loses at most the
        records of this many seconds.
      keep_samples: seconds for which samples are kept.
      keep_minutes: seconds for which sums by the minute are kept. Decisions and errors are not
        deleted.
      buffer: how many samples, decisions and errors are kept in memory while the database is
        unavailable. Beyond that, the oldest samples are dropped and counted; when there are no
        samples, the oldest decisions and errors.

    Raises:
      ValueError: if the address is neither of these, or a number is out of range.
      ModuleNotFoundError: if SQLAlchemy, or the driver for the database, is not installed.
      StatisticsError: if the file is not a database, or its tables have a newer version.

    Error handling:
      If the database cannot be reached, even at the beginning, a warning is logged once to the
      logger ``trio_turnstile.statistics``.

    Cancellation:
      However the block ends, the remaining records are stored. This is given up, and logged, if
      the database fails, or accepts nothing for five seconds.
    """
    _check(buffer, every=every, keep_samples=keep_samples, keep_minutes=keep_minutes)
    recorder = await _open(turnstile, url, keep_samples, keep_minutes, buffer)
    scope = trio.CancelScope()

    async def write(_: Turnstile) -> None:
        with scope:
            await recorder.run(every)

    observation = turnstile.observe(recorder.hear)
    for run in turnstile.runs.values():
        recorder.know(run)
    try:
        turnstile.watch(write)
        yield Recording(recorder)
    finally:
        scope.cancel()
        patience = Patience(GRACE)
        with patience, observation:
            await recorder.finish(patience.renew, observation.close)


async def _open(
    turnstile: Turnstile, url: str, keep_samples: float, keep_minutes: float, buffer: int
) -> Recorder:
    """Return a recorder that has stored its session, if the database is available."""
    opened = turnstile.opened

    def clock(time: float) -> int:
        return int(1000 * opened.wall_time_of(time))

    def make_writer() -> Writer:
        # In the thread, because importing SQLAlchemy takes a fifth of a second.
        from ._retention import Retention
        from ._writer import Writer

        return Writer(url, clock, Retention(keep_samples, keep_minutes))

    writer = await trio.to_thread.run_sync(make_writer)
    session = _session(turnstile, clock(trio.current_time()))
    recorder = Recorder(turnstile, writer, session, clock, buffer)
    await recorder.begin()
    return recorder


def _session(turnstile: Turnstile, started: int) -> Row:
    return {
        "uuid": turnstile.id,
        "name": text(turnstile.name),
        "host": text(socket.gethostname()),
        "pid": os.getpid(),
        "command": text(_PASSWORD.sub(r"\1***@", shlex.join(sys.orig_argv))),
        "started": started,
        "ended": None,
    }


def _check(buffer: object, **seconds: object) -> None:
    for name, value in seconds.items():
        if not (isinstance(value, int | float) and 0 < value < math.inf):
            raise ValueError(f"{name} must be more than 0 seconds, not {value!r}")
    if not (isinstance(buffer, int) and buffer > 0):
        raise ValueError(f"buffer must be a whole number above 0, not {buffer!r}")
