"""`read_statistics`: reads the records of one turnstile."""

from __future__ import annotations

from ._records import SessionRecord


def read_statistics(
    url: str = "sqlite:///turnstile.db", *, run: str | None = None
) -> SessionRecord:
    """Return the statistics of one turnstile that `record_statistics` has stored.

    This blocks, so call it in a thread in a trio program. Long lists are shortened to the busiest
    limiters, and to the newest runs, decisions and errors.

    Args:
      url: the database, as for `record_statistics`.
      run: which recording to return; the newest by default. Give the name of the turnstile, the
        name of a run of phases or of a pipeline in it, or the beginning of its id.

    Raises:
      ValueError: if the address is not valid.
      ModuleNotFoundError: if SQLAlchemy, or the driver for the database, is not installed.
      StatisticsError: if there are no statistics, none of that run, or the database cannot be
        read.
    """
    from ._reading import read

    return read(url, run)
