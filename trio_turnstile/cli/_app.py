"""The commands, and the parsing of a command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import BoundArguments
from typing import Any

from cyclopts import App, CycloptsError

from ._exit_status import USAGE
from ._options import UsageError
from ._run import run
from ._simulate import simulate

app = App(
    name="turnstile",
    help="Run many shell commands at a time, under a limit that can change while they run.",
    help_format="markdown",
)
app.command(run)
app.command(simulate)


def launch(arguments: list[str]) -> int:
    """Run the command of a command line, and return its exit status.

    The parser does not see what comes after ``--``: it is slow with many arguments, and
    does not report a ``--`` that has nothing after it.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    try:
        command, bound, unparsed = _parse(arguments[:end])
        if "rest" in unparsed:
            bound.arguments["rest"] = arguments[end + 1 :] if end < len(arguments) else None
        elif end < len(arguments):
            command, bound, _ = _parse(arguments)
        return command(*bound.args, **bound.kwargs) or 0
    except (CycloptsError, UsageError) as error:
        print(f"turnstile: {error}\nFor help: turnstile run --help", file=sys.stderr)
        return USAGE


def _parse(arguments: list[str]) -> tuple[Callable[..., Any], BoundArguments, dict[str, Any]]:
    return app.parse_args(arguments, print_error=False, exit_on_error=False)
