"""The commands, and the parsing of a command line."""

from __future__ import annotations

from collections.abc import Callable
from inspect import BoundArguments
from typing import Any

from cyclopts import App, CycloptsError

from ._arguments import MARKS, UsageError, check_arguments, give_values
from ._complaints import say_not_done, say_usage
from ._exit_status import NotDone

_COMMANDS = ("run", "ctl", "top", "ledger", "report", "simulate")


def launch(arguments: list[str]) -> int:
    """Run the command of a command line, and return its exit status.

    The parser does not see what comes after ``--`` or ``:::``: it is slow with many arguments, and
    does not report a ``--`` that has nothing after it.
    """
    name = arguments[0] if arguments and arguments[0] in _COMMANDS else ""
    ends = {"--", *MARKS} if name == "run" else {"--"}
    end = next((at for at, each in enumerate(arguments) if each in ends), len(arguments))
    app = _make_app(name)
    try:
        if name == "run":
            arguments[:end] = give_values(arguments[:end])
            check_arguments(arguments[1:end], ended=end < len(arguments))
        command, bound, unparsed = _parse(app, arguments[:end])
        if "rest" in unparsed:
            bound.arguments["rest"] = arguments[end:] if end < len(arguments) else None
        elif end < len(arguments):
            command, bound, _ = _parse(app, arguments)
        return command(*bound.args, **bound.kwargs) or 0
    except (CycloptsError, UsageError) as error:
        return say_usage(error, name)
    except NotDone as error:
        return say_not_done(error)


def _make_app(name: str) -> App:
    """Return the parser; if the name is a command, the parser knows only that command.

    Importing the other commands takes longer than most commands run.
    """
    app = App(
        name="turnstile",
        help="Run many shell commands at a time, under a limit that can change while they run.",
        help_format="markdown",
    )
    if name in ("", "run"):
        from ._run import run

        app.command(run)
    if name in ("", "ctl"):
        from ._ctl import ctl

        app.command(ctl)
    if name in ("", "top"):
        from ._top import top

        app.command(top)
    if name in ("", "ledger"):
        from ._ledger import ledger

        app.command(ledger)
    if name in ("", "report"):
        from ._report import report

        app.command(report)
    if name in ("", "simulate"):
        from ._simulate import simulate

        app.command(simulate)
    return app


def _parse(
    app: App, arguments: list[str]
) -> tuple[Callable[..., Any], BoundArguments, dict[str, Any]]:
    return app.parse_args(arguments, print_error=False, exit_on_error=False)
