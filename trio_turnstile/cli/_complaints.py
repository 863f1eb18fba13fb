"""Error messages of the command, and their exit status."""

from __future__ import annotations

import sys

from ._exit_status import USAGE, NotDone
from ._printable import printable_lines


def say_usage(error: Exception, command: str) -> int:
    """Print what is wrong with a command line, and how to get help."""
    help_ = " ".join(filter(None, ("turnstile", command, "--help")))
    print(f"turnstile: {printable_lines(str(error))}\nFor help: {help_}", file=sys.stderr)
    return USAGE


def say_not_done(error: NotDone) -> int:
    """Print why an order was not carried out."""
    print(f"turnstile: {printable_lines(str(error))}", file=sys.stderr)
    return error.status
