"""The end of a run: its exit status and its summary. Sans-I/O."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import final

import attrs

from trio_turnstile import ConcurrentError

from ._durations import format_clock
from ._exit_status import MOST_FAILURES, status_of_signal
from ._inputs import InputError, describe_input_error
from ._printable import printable
from ._shell import ShellOperation

_LONGEST_NAME = 100


@final
@attrs.frozen(kw_only=True)
class Summary:
    """The result of a run."""

    total: int | None
    """How many inputs there were; ``None`` if they were not read to the end."""
    skipped: int
    """How many inputs had ended in an earlier run."""
    started: int
    """How many operations started."""
    completed: int
    """How many of them completed."""
    failed: int
    """How many of them failed. The others were cancelled."""
    errors: Sequence[ConcurrentError]
    """The first errors."""
    errors_omitted: int
    """The number of further errors, which were not kept."""
    input_error: InputError | None
    """Why the inputs were not read to the end; it is also among `errors`."""
    stop_signal: signal.Signals | None
    """The first signal that asked the run to stop."""
    lost_output: bool
    """Whether some output of operations could not be printed."""
    lost_log: bool
    """Whether the job log could not be written."""
    lost_ledger: bool
    """Whether the ledger could not be written."""
    seconds: float
    """How long the run took."""
    left_running: int = 0
    """How many operations have left a job running on the cluster."""
    succeeded: bool = False
    """Whether the number of completed operations reached its goal; failures then do not count."""

    @property
    def status(self) -> int:
        """The exit status."""
        failures = 0 if self.succeeded else self.failed
        failures += (self.input_error is not None) + self.lost_log + self.lost_ledger
        if failures:
            return min(failures, MOST_FAILURES)
        if self.lost_output:
            return status_of_signal(signal.SIGPIPE)
        if self.stop_signal is not None and self.completed + self.skipped != self.total:
            return status_of_signal(self.stop_signal)
        return 0

    def describe_errors(self) -> Iterator[str]:
        """Yield the descriptions of the errors, each of one line or more."""
        left = len(self.errors) + self.errors_omitted
        if self.input_error is not None:
            left -= 1
            yield describe_input_error(self.input_error)
        for error in self.errors:
            if error.phase == "source":
                continue
            left -= 1
            if error.phase != "ledger":  # the user was told when it happened
                yield _describe(error)
        if left > 0:
            yield f"and {left} more {'error' if left == 1 else 'errors'}"

    def __str__(self) -> str:
        cancelled = self.started - self.completed - self.failed - self.left_running
        counts = f"{self.completed} completed, {self.failed} failed"
        counts += f", {cancelled} cancelled" if cancelled else ""
        counts += f", {self.left_running} left running" if self.left_running else ""
        counts += f", {self.skipped} skipped" if self.skipped else ""
        if self.total is None:
            rest = "; not all inputs were read"
        else:
            left = self.total - self.started - self.skipped
            rest = f"; {left} not started" if left > 0 else ""
        return f"{counts} in {format_clock(self.seconds)}{rest}"


def _describe(error: ConcurrentError) -> str:
    cause, operation = error.__cause__, error.item
    assert isinstance(operation, ShellOperation)
    name = printable(operation.text)
    if len(name) > _LONGEST_NAME:
        name = name[:_LONGEST_NAME] + "..."
    attempt = f", attempt {error.attempt}" if error.attempt > 1 else ""
    return f"{operation.seq} '{name}': {error.phase}{attempt}: {printable(str(cause))}"
