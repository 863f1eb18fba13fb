"""Orders of ``turnstile ctl`` to change a limiter: how they are given, and their results.

They need only the standard library. The usual forms of a command line are read here too, since
importing the parser takes longer than everything else. The parser reads all other forms.
"""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ._arguments import UsageError
from ._client import Client, Document, limiter_path
from ._complaints import say_not_done, say_usage
from ._ctl_text import answer_line
from ._durations import Duration
from ._exit_status import REFUSED, NotDone
from ._printable import printable
from ._processes import choose_process

_MOVES = ("up", "down", "pause", "resume", "release")
_TIMED = ("set", "pause")
_FLAGS = ("--json", "--dry-run")
_VALUES = ("--pid", "--socket", "--note", "--for")


class Asked(NamedTuple):
    """Which process is asked, and how its answer is printed."""

    pid: int | None
    socket: Path | None
    json: bool

    def client(self) -> Client:
        """Return the client that asks the process."""
        return choose_process(self.pid, self.socket).client()

    def print(self, document: Any, lines: Iterable[str]) -> None:
        """Print an answer: the document as JSON, or else the lines."""
        if self.json:
            print(json.dumps(document), flush=True)
            return
        for line in lines:
            print(printable(line), flush=True)


def change_body(note: str | None, dry_run: bool, **more: object) -> dict[str, object]:
    """Return the body of a request for a change; values that are ``None`` are left out."""
    given = {**more, "by": author(), "note": note, "dry_run": dry_run or None}
    return {name: value for name, value in given.items() if value is not None}


def author() -> str:
    """Return the author of an order: the name of the user, or the number if it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def set_limit(limiter: str, body: Mapping[str, object], asked: Asked) -> int:
    """Set a limit; return the exit status."""
    return _told(asked.client().patch(limiter_path(limiter), body), asked)


def move(how: str, limiter: str | None, body: Mapping[str, object], asked: Asked) -> int:
    """Move the limit of one limiter, or of all; return the exit status."""
    path = f"/{how}" if limiter is None else limiter_path(limiter, how)
    return _told(asked.client().post(path, body), asked)


def _told(document: Any, asked: Asked) -> int:
    """Print the result of a change, or one for each limiter; return the exit status."""
    each: list[Document] = document if isinstance(document, list) else [document]
    asked.print(document, map(answer_line, each) if each else ["no limiters"])
    return 0 if all(one["decision"]["applied"] for one in each) else REFUSED


# ---- the usual forms ----


class Order(NamedTuple):
    """A change that was asked for on a command line."""

    how: str
    limiter: str
    body: dict[str, object]
    asked: Asked

    def give(self) -> int:
        """Carry it out; return the exit status."""
        if self.how == "set":
            return set_limit(self.limiter, self.body, self.asked)
        return move(self.how, self.limiter, self.body, self.asked)


def give_order(order: Order) -> int:
    """Carry out an order, and print what is wrong with it; return the exit status."""
    try:
        return order.give()
    except UsageError as error:
        return say_usage(error, "ctl")
    except NotDone as error:
        return say_not_done(error)


def read_order(arguments: Sequence[str]) -> Order | None:
    """Return the order that a command line gives; ``None`` if the parser has to read it."""
    if len(arguments) < 3 or arguments[0] != "ctl":
        return None
    how = arguments[1]
    split = _split(arguments[2:])
    if split is None:
        return None
    words, options = split
    if how == "set" and len(words) == 2 and (limit := _number(words[1])) is not None:
        return _order(how, words[0], options, limit=limit)
    if how in _MOVES and len(words) == 1:
        return _order(how, words[0], options)
    return None


def _order(how: str, limiter: str, options: dict[str, str], **more: object) -> Order | None:
    seconds, pid, path = options.get("--for"), options.get("--pid"), options.get("--socket")
    if seconds is not None:
        more["seconds"] = _seconds(seconds)
        if how not in _TIMED or not more["seconds"]:
            return None
    number = None if pid is None else _number(pid)
    if number is None and pid is not None:
        return None
    body = change_body(options.get("--note"), "--dry-run" in options, **more)
    socket = None if path is None else Path(path)
    return Order(how, limiter, body, Asked(number, socket, "--json" in options))


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]] | None:
    """Return the words and the options of a command line, if they are plain."""
    words: list[str] = []
    options: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument in options or not argument:
            return None
        if argument in _FLAGS:
            options[argument] = ""
        elif argument in _VALUES:
            options[argument] = next(rest, "")
            if not options[argument] or options[argument].startswith("-"):
                return None
        elif argument.startswith("-"):
            return None
        else:
            words.append(argument)
    return words, options


def _number(text: str) -> int | None:
    """Return a number that is written without anything unusual."""
    plain = text.isascii() and text.isdecimal() and len(text) < 10
    return int(text) if plain and str(int(text)) == text else None


def _seconds(text: str) -> Duration | None:
    try:
        return Duration.parse(text)
    except ValueError:
        return None
