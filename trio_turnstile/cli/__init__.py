"""The ``turnstile`` command.

The command needs the extra ``cli``. This module works without it, so that it can say so.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn, TextIO

from ._exit_status import USAGE, status_of_signal
from ._signals import ignore_stops, prepare_signals


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
        status = _give_up_stdout(status_of_signal(signal.SIGPIPE))
    except OSError as error:
        status = _give_up_stdout(1)
        _refuse(f"{error.strerror or error}")
    ignore_stops()
    sys.exit(status)


def _give_up_stdout(status: int) -> int:
    # At exit Python would flush stdout again and print a traceback, so point fd 1 at /dev/null.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _launch(arguments: list[str]) -> int:
    if os.name != "posix":
        return _refuse("it needs a POSIX system, for its shell, signals and process groups")
    _prepare_process()
    if arguments == ["--version"]:
        return _print_version()  # at once: importing the parser takes twice as long as trio
    if arguments[:1] == ["ctl"]:
        from ._ctl_orders import give_order, read_order

        if (order := read_order(arguments)) is not None:
            return give_order(order)
    for package in ("cyclopts", "rich"):
        if not _is_there(package):
            return _refuse(f"{package} is missing; pip install 'trio-turnstile[cli]'")
    from ._app import launch

    return launch(arguments)


def _is_there(package: str) -> bool:
    try:
        import_module(package)
    except ModuleNotFoundError:
        return False
    return True


def _print_version() -> int:
    import trio_turnstile

    print(trio_turnstile.__version__)
    return 0


def _prepare_process() -> None:
    prepare_signals()
    # If a standard stream is closed, the next file that is opened would get its descriptor,
    # and would be read or written instead of it.
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python has no stream for a descriptor that was closed when it started. And a character
    # that a stream cannot encode, for example in a help text, must not end the program.
    sys.stdout = _usable(sys.stdout, 1)
    sys.stderr = _usable(sys.stderr, 2)


def _usable(stream: TextIO | None, fd: int) -> TextIO:
    if stream is None:
        return open(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _refuse(why: str) -> int:
    print(f"turnstile: {why}", file=sys.stderr)
    return USAGE
