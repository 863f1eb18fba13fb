"""The ``turnstile`` command.

It needs the extra ``cli``. This module does not, so that it can say so.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

USAGE = 2
"""The exit status if nothing was run, because of how the command was called."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the ``turnstile`` command and exit.

    Args:
      arguments: the command line without its first word; ``None`` for `sys.argv`.

    Raises:
      SystemExit: always, with the exit status.
    """
    try:
        status = _launch(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BrokenPipeError:
        # What is left in the buffer would be written, in vain and not without a word, at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 128 + signal.SIGPIPE
    sys.exit(status)


def _launch(arguments: list[str]) -> int:
    if os.name != "posix":
        return _refuse("it needs a POSIX system, for its shell, signals and process groups")
    _settle_in()
    try:
        from ._app import launch
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in ("cyclopts", "rich"):
            raise
        return _refuse(f"{package} is missing; pip install 'trio-turnstile[cli]'")
    return launch(arguments)


def _settle_in() -> None:
    # A signal to retune that comes too soon or too late must not end the program.
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    # Were one of these closed, the next file to be opened would be taken for it.
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _refuse(why: str) -> int:
    print(f"turnstile: {why}", file=sys.stderr)
    return USAGE
