"""`read_statistics`: what was recorded of one turnstile."""

from __future__ import annotations

from ._records import SessionRecord


def read_statistics(
    url: str = "sqlite:///turnstile.db", *, run: str | None = None
) -> SessionRecord:
    """Return what `record_statistics` has stored of one turnstile.

    It blocks: in a trio program, call it in a thread. Of what is long, a part is returned: the
    busiest limiters, and the newest runs, decisions and errors.

    Args:
      url: the database, as for `record_statistics`.
      run: which one, if not the newest: by the name of the turnstile, by the name of a run of
        phases or of a pipeline in it, or by how its id begins.

    Raises:
      ValueError: if the address is none.
      ModuleNotFoundError: if SQLAlchemy, or the driver for the database, is not installed.
      StatisticsError: if there are no statistics, none of that run, or the database cannot be
        read.
    """
    from ._reading import read

    return read(url, run)
