"""The ``turnstile`` command.

The command needs the extra ``cli``. This module works without it, so that it can say so.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from ._exit_status import USAGE, status_of_signal
from ._signals import prepare_signals


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
        status = status_of_signal(signal.SIGINT)
    except BrokenPipeError:
        # At exit Python would flush stdout again and print a traceback, so point fd 1
        # at /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = status_of_signal(signal.SIGPIPE)
    sys.exit(status)


def _launch(arguments: list[str]) -> int:
    if os.name != "posix":
        return _refuse("it needs a POSIX system, for its shell, signals and process groups")
    _prepare_process()
    try:
        from ._app import launch
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in ("cyclopts", "rich"):
            raise
        return _refuse(f"{package} is missing; pip install 'trio-turnstile[cli]'")
    return launch(arguments)


def _prepare_process() -> None:
    prepare_signals()
    # If a standard stream is closed, the next file to be opened would get its descriptor,
    # and be read or written in its place.
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _refuse(why: str) -> int:
    print(f"turnstile: {why}", file=sys.stderr)
    return USAGE
