"""``turnstile report``: show how a recorded program went, and what its bottleneck was."""

from __future__ import annotations

from pathlib import Path

from ._arguments import UsageError
from ._recording import address_of


def report(
    database: str = "turnstile.db", /, *, run: str | None = None, html: Path | None = None
) -> int:
    """Show from recorded statistics how a program went, and what its bottleneck was.

    turnstile run --statistics records them, and so does record_statistics in a Python program.
    This needs SQLAlchemy, from the extra "stats".

    For example:

        turnstile report turnstile.db --html report.html

    Args:
      database: The file with the statistics, or the address of a PostgreSQL database, such as
        postgresql://HOST/DATABASE.
      run: Which run to show; the newest by default. Give the name that the program gave to its
        turnstile, the name of a run of phases or of a pipeline, or the beginning of its id.
      html: Write a web page with charts to this file, instead of printing tables. The page
        needs no network.
    """
    from trio_turnstile.integrations.statistics import StatisticsError, read_statistics

    try:
        session = read_statistics(address_of(database), run=run)
    except (ValueError, StatisticsError) as error:
        raise UsageError(str(error)) from None
    except ModuleNotFoundError as error:
        raise UsageError(f"{error}: pip install 'trio-turnstile[stats,postgres]'") from None
    if html is not None:
        from ._report_page import page

        html.write_text(page(session), encoding="utf-8")
        return 0
    from rich.console import Console

    from ._report_text import show

    show(session, Console(highlight=False, markup=False))
    return 0
