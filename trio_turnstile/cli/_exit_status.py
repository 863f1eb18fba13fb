"""The exit statuses of the command.

The module works without the extra and on any system, as `trio_turnstile.cli` does.
"""

from __future__ import annotations

from typing import final

REFUSED = 1
"""A running process was asked for something, and refused."""

USAGE = 2
"""Nothing was run, because of how the command was called."""

UNANSWERED = 3
"""No running process has answered."""

MOST_FAILURES = 101
"""So many operations failed, or more."""


@final
class NotDone(Exception):
    """What a running process was asked for is not done; ``status`` is the exit status."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


def status_of_signal(number: int) -> int:
    """Return the exit status of a command that a signal has ended, as a shell does."""
    return 128 + number
