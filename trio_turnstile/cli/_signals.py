"""The signals of the process: what it inherits, and a signal before or after a run.

A parent hands on which signals are ignored or blocked. What we could not work without is
set right. But SIGINT, SIGQUIT, SIGTERM and SIGHUP stay ignored if they were, for us and for
the commands: so a shell starts a background job of a script, and nohup(1) a program.

The module works without the extra, as `trio_turnstile.cli` does.
"""

from __future__ import annotations

import os
import signal
from typing import final

from ._exit_status import status_of_signal

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a run to stop."""


@final
class Leave:
    """A handler that ends the process at once, with the exit status of the signal.

    An exception would not do: in the middle of an import it ends as a traceback.
    """

    def __init__(self) -> None:
        self.over = False
        """Whether the run is over, so that a signal must not change its exit status."""

    def __call__(self, signum: int, frame: object) -> None:
        """Act on a signal."""
        if not self.over:
            os._exit(status_of_signal(signum))


leave = Leave()
"""What stop signals do before and after a run."""


def prepare_signals() -> None:
    """Set right what the process has inherited, and leave plainly on an early stop signal."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # If it were ignored, the exit statuses of commands would be lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # By default these end a process. One that comes before or after the run must not.
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    leave.over = False
    for signum in heeded(STOPS):
        signal.signal(signum, leave)


def ignore_stops() -> None:
    """Let the process end with its exit status: handlers are taken away before that."""
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)


def heeded(signals: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    """Return those of the signals that are not ignored."""
    return [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]
