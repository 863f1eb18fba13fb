"""What became of a run: the exit status, and what is said of it at the end. Pure."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import final

import attrs

from trio_turnstile import ConcurrentError

from ._shell import CommandFailed, ShellOperation, printable
from ._units import format_clock

MOST_FAILURES = 101
"""The exit status for so many failures, and for more."""

_LONGEST_NAME = 100


@final
@attrs.frozen(kw_only=True)
class Outcome:
    """What became of a run."""

    total: int | None
    """How many inputs there were; ``None`` if they were not read to the end."""
    begun: int
    """How many operations began."""
    completed: int
    """How many of them completed."""
    failed: int
    """How many failed. The rest was cancelled."""
    errors: Sequence[ConcurrentError]
    """The first errors."""
    errors_omitted: int
    """How many errors more there were."""
    source_error: ConcurrentError | None
    """Why the inputs could not be read to the end; it is among the errors."""
    stopped_by: signal.Signals | None
    """The first signal that asked for an end."""
    lost_output: bool
    """Whether something that operations wrote could not be printed."""
    seconds: float
    """How long the run took."""

    @property
    def status(self) -> int:
        """The exit status."""
        failures = self.failed + (self.source_error is not None)
        if failures:
            return min(failures, MOST_FAILURES)
        if self.lost_output:
            return 128 + signal.SIGPIPE
        if self.stopped_by is not None and self.completed != self.total:
            return 128 + self.stopped_by
        return 0

    def describe_errors(self) -> Iterator[str]:
        """Yield what is to be said of the errors, in texts of a line or more."""
        left = len(self.errors) + self.errors_omitted
        if self.source_error is not None:
            left -= 1
            yield f"the inputs could not be read on: {self.source_error.__cause__}"
        for error in self.errors:
            if error is not self.source_error:
                left -= 1
                yield _describe(error)
        if left:
            yield f"and {left} errors more"

    def __str__(self) -> str:
        cancelled = self.begun - self.completed - self.failed
        counts = f"{self.completed} completed, {self.failed} failed"
        counts += f", {cancelled} cancelled" if cancelled else ""
        if self.total is None:
            rest = "; not all inputs were read"
        else:
            rest = f"; {self.total - self.begun} not begun" if self.total > self.begun else ""
        return f"{counts} in {format_clock(self.seconds)}{rest}"


def _describe(error: ConcurrentError) -> str:
    cause, operation = error.__cause__, error.item
    assert isinstance(operation, ShellOperation)
    name = printable(operation.text)
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + "..."
    attempt = f", attempt {error.attempt}" if error.attempt > 1 else ""
    tail = cause.tail if isinstance(cause, CommandFailed) else ""
    lines = [f"{operation.seq} '{name}': {error.phase}{attempt}: {cause}", *tail.splitlines()]
    return "\n    ".join(lines)
