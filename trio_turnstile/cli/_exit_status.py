"""The exit statuses of the command.

The module works without the extra and on any system, as `trio_turnstile.cli` does.
"""

from __future__ import annotations

USAGE = 2
"""Nothing was run, because of how the command was called."""

MOST_FAILURES = 101
"""So many operations failed, or more."""


def status_of_signal(number: int) -> int:
    """Return the exit status of a command that a signal has ended, as a shell does."""
    return 128 + number
