"""The choice between a live line and plain lines. Without a terminal, rich is not imported."""

from __future__ import annotations

import os

from ._progress import PlainLines, Progress
from ._writer import Writer

_DUMB = ("dumb", "unknown")


def open_progress(*, quiet: bool, live: bool = True) -> Progress:
    """Return the way to show progress that suits standard error.

    Args:
      quiet: whether to show only notes.
      live: whether a live line is possible, which it is not if others write to the terminal.
    """
    writer = Writer(2)
    if quiet or not live or not os.isatty(2) or os.environ.get("TERM", "").lower() in _DUMB:
        return PlainLines(writer, quiet=quiet)
    from ._live_line import LiveLine, open_console

    return LiveLine(open_console(writer), writer)
