"""The exit statuses of the command.

The module works without the extra and on any system, as `trio_turnstile.cli` does.
"""

from __future__ import annotations

from typing import final

REFUSED = 1
"""A running process refused a request."""

USAGE = 2
"""Nothing was run, because the command was called incorrectly."""

UNANSWERED = 3
"""No running process answered."""

MOST_FAILURES = 101
"""This many operations failed, or more."""


@final
class NotDone(Exception):
    """A running process did not do what it was asked for; ``status`` is the exit status."""

    def __init__(self, why: str, status: int) -> None:
        super().__init__(why)
        self.status = status


def status_of_signal(number: int) -> int:
    """Return the exit status that a shell gives to a command that a signal has ended."""
    return 128 + number
