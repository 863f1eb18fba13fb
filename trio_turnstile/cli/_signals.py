"""The signals of the process: inherited settings, and signals before or after a run.

A process inherits from its parent which signals are ignored or blocked. Settings that we could
not work with are reset. But SIGINT, SIGQUIT, SIGTERM and SIGHUP stay ignored if they were, for
us and for the commands: shells ignore signals for background jobs, and nohup(1) for a program.

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

    An exception would not do: raised in the middle of an import, it ends in a traceback.
    """

    def __init__(self) -> None:
        self.over = False
        """Whether the run is over, so that a signal must not change its exit status."""

    def __call__(self, signum: int, frame: object) -> None:
        """Act on a signal."""
        if not self.over:
            os._exit(status_of_signal(signum))


leave = Leave()
"""The handler of stop signals before and after a run."""


def prepare_signals() -> None:
    """Reset inherited settings, and exit without a traceback on an early stop signal."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # If SIGCHLD were ignored, the exit statuses of commands would be lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # By default these end a process, which they must not do before or after the run.
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    leave.over = False
    for signum in heeded(STOPS):
        signal.signal(signum, leave)


def ignore_stops() -> None:
    """Ignore stop signals, so that the process ends with its own exit status.

    At exit Python resets its own handlers, and a signal would then kill the process.
    """
    for signum in STOPS:
        signal.signal(signum, signal.SIG_IGN)


def heeded(signals: tuple[signal.Signals, ...]) -> list[signal.Signals]:
    """Return the signals that are not ignored."""
    return [signum for signum in signals if signal.getsignal(signum) is not signal.SIG_IGN]
