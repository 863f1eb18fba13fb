"""The options that the commands of ``turnstile ctl`` share."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ._client import Client
from ._options import Seconds
from ._printable import printable
from ._processes import choose_process

WHICH = Group("Which process", sort_key=8)
ANSWER = Group("The answer", sort_key=7)
CHANGE = Group("The change", sort_key=6)


@Parameter(name="*")
@final
@attrs.frozen(kw_only=True)
class Asking:
    """Which running process is asked, and how its answer is printed."""

    pid: Annotated[int | None, Parameter(group=WHICH)] = None
    """The number of the process. It need not be given if only one is running."""

    socket: Annotated[Path | None, Parameter(group=WHICH)] = None
    """The path of its control socket, if that is not where turnstile run puts it."""

    json: Annotated[bool, Parameter(negative=(), show_default=False, group=ANSWER)] = False
    """Print the answer as JSON, as the process gave it."""

    def client(self) -> Client:
        """Return what asks the process."""
        return choose_process(self.pid, self.socket).client()

    def print(self, document: Any, lines: Iterable[str]) -> None:
        """Print an answer: the document as JSON, or else the lines."""
        if self.json:
            print(json.dumps(document), flush=True)
            return
        for line in lines:
            print(printable(line), flush=True)


@Parameter(name="*", group=CHANGE)
@final
@attrs.frozen(kw_only=True)
class Change:
    """What goes with a change."""

    note: str | None = None
    """Why: it is kept with the decision, and turnstile ctl why shows it."""

    dry_run: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Say what would come of it, and change nothing."""

    def body(self, **more: object) -> dict[str, object]:
        """Return what to send to the process; what is ``None`` is left out."""
        given = {**more, "by": author(), "note": self.note, "dry_run": self.dry_run or None}
        return {name: value for name, value in given.items() if value is not None}


def author() -> str:
    """Return who asks: the name of the user, or the number of one without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


For = Annotated[Seconds | None, Parameter(name="--for", validator=Number(gt=0), group=CHANGE)]
"""How long a change holds."""
