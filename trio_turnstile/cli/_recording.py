"""The statistics of a run, in a database: ``--statistics``."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from trio_turnstile import Turnstile

from ._arguments import UsageError
from ._threads import lacks_thread

if TYPE_CHECKING:
    from trio_turnstile.integrations.statistics import RecordedHistory

_LOG = logging.getLogger("trio_turnstile.statistics")


def address_of(database: str) -> str:
    """Return the address of a database that was given as an address or as a file."""
    return database if "://" in database else f"sqlite:///{database}"


@asynccontextmanager
async def record(
    database: str | None, turnstile: Turnstile, note: Callable[[str], object]
) -> AsyncIterator[RecordedHistory | None]:
    """Record a run while a block runs, if the user wants that, and give its earlier records.

    Args:
      database: the address or the file of the database; ``None`` to record nothing.
      turnstile: the turnstile to record.
      note: shows a line to the user.

    Raises:
      UsageError: if the run cannot be recorded there.
    """
    if database is None:
        yield None
        return
    # Imported here, so that runs without it start sooner.
    from trio_turnstile.integrations.statistics import (
        RecordedHistory,
        StatisticsError,
        record_statistics,
    )

    url = address_of(database)
    with _warnings_to(note):
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(record_statistics(turnstile, url))
            except (ValueError, StatisticsError) as error:
                raise UsageError(f"--statistics: {error}") from None
            except ModuleNotFoundError as error:
                advice = "pip install 'trio-turnstile[stats,postgres]'"
                raise UsageError(f"--statistics: {error}: {advice}") from None
            except RuntimeError as error:
                if not lacks_thread(error):
                    raise
                raise UsageError("--statistics: no thread could be started") from None
            yield RecordedHistory(url, turnstile.name)


@contextmanager
def _warnings_to(note: Callable[[str], object]) -> Iterator[None]:
    """Show warnings of the recorder as lines of the run, which do not garble its live line."""

    def show(record: logging.LogRecord) -> bool:
        note(f"--statistics: {record.getMessage()}")
        return False

    handler = logging.Handler(logging.WARNING)
    handler.addFilter(show)
    _LOG.addHandler(handler)
    try:
        yield
    finally:
        _LOG.removeHandler(handler)
