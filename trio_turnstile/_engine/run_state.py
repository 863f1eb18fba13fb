"""`RunState`: the errors of a run, and how it ends before its source does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, final

import trio

from trio_turnstile._errors import ConcurrentError
from trio_turnstile._util import check_whole


@final
class RunState:
    """The errors of a run, and how it ends before its source does.

    Args:
      max_errors: how many errors to keep.
    """

    def __init__(self, max_errors: int) -> None:
        check_whole("max_errors", max_errors, 0)
        self.errors: list[ConcurrentError] = []
        """The first errors."""
        self.errors_omitted: int = 0
        """How many more there were."""
        self.fatal: list[ConcurrentError] = []
        """The errors that stopped the run."""
        self.scope: trio.CancelScope = trio.CancelScope()
        """Round all the stages of the run."""
        self.stop_source: Callable[[], None]
        """Lets the first stage take no more items; set by the front end."""
        self._max_errors = max_errors

    def record(self, error: ConcurrentError) -> None:
        """Keep an error, or count it."""
        if len(self.errors) < self._max_errors:
            self.errors.append(error)
        else:
            self.errors_omitted += 1

    def drain(self, deadline: float | None = None) -> None:
        """Take no more items; let those in hand finish until ``deadline``, on trio's clock."""
        self.stop_source()
        if deadline is not None:
            self.scope.deadline = min(self.scope.deadline, deadline)

    def stop(self, error: ConcurrentError, when: Literal["soon", "now"]) -> None:
        """End the run because of ``error``: take no more items, or cancel all at once."""
        self.fatal.append(error)
        self.drain()
        if when == "now":
            self.scope.cancel()
