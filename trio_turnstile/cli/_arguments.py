"""Checks of the arguments of ``turnstile run`` before they are parsed.

The shell puts the names of files among the arguments: ``turnstile run --work CMD *.txt``. A
file whose name looks like an option must not become one. After a ``--`` it cannot.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ._printable import printable

_FLAGS = frozenset(
    {
        "--null",
        "--xargs",
        "--header",
        "--shuf",
        "--pipe",
        "--pipe-part",
        "--dry-run",
        "--quiet",
        "--keep-order",
        "--line-buffer",
        "--lb",
        "--ungroup",
        "--tag",
        "--verbose",
        "--resume",
        "--resume-failed",
        "--retry-failed",
        "--accept-changes",
        "--fresh",
        "--no-control",
        "--detach",
        "--help",
        "--version",
    }
)
"""The long options that take no value."""

_FLAG_LETTERS = "0Xhkmquv"
_HELP = frozenset({"--help", "-h", "--version"})

MARKS = frozenset({":::", "::::", ":::+", "::::+"})
"""The arguments that begin a source of inputs; the options end there."""


POLICIES = frozenset({"knee", "aimd", "vegas", "gradient2"})
"""What can follow ``--adapt``; anything else is the next argument."""


class UsageError(Exception):
    """Options that contradict each other, or name something that cannot be used."""


def check_arguments(arguments: Sequence[str], *, ended: bool) -> None:
    """Check the arguments before the ``--`` or the first mark.

    Args:
      arguments: what comes after ``run``.
      ended: whether there is a ``--`` or a mark.

    Raises:
      UsageError: if an option may be the name of a file, or ``--work`` is missing.
    """
    options = _split(arguments)
    names = {option.partition("=")[0] for option in options}
    if names & _HELP:
        return
    for option in options:
        if not ended and os.path.lexists(option):
            raise UsageError(
                f"{printable(option)!r} is an option, but also the name of a file here: write -- "
                f"before the inputs, or run the command in another folder"
            )
    if "--work" not in names.union(arguments):  # it may come after an unknown option
        raise UsageError("--work is missing: the command to run for each input")


def give_values(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a value for ``--adapt`` where it has none."""
    following = [*arguments[1:], ""]
    return [
        "--adapt=knee" if argument == "--adapt" and after not in POLICIES else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def _split(arguments: Sequence[str]) -> list[str]:
    """Return the options, without values that are separate arguments."""
    options: list[str] = []
    first_input: str | None = None
    rest = iter(arguments)
    for argument in rest:
        if argument == "-" or not argument.startswith("-"):
            first_input = argument if first_input is None else first_input
            continue
        if first_input is not None:
            raise UsageError(
                f"the option {printable(argument)!r} comes after the input "
                f"{printable(first_input)!r}: write the options first, then --, then the inputs"
            )
        options.append(argument)
        if _takes_next(argument):
            next(rest, None)
    return options


def _takes_next(option: str) -> bool:
    """Tell whether the value of an option is the next argument."""
    if option.startswith("--"):
        return option not in _FLAGS and "=" not in option
    letters = option[1:].lstrip(_FLAG_LETTERS)  # -q0j 4 is -q -0 -j 4, and -j4 has its value
    return len(letters) == 1
