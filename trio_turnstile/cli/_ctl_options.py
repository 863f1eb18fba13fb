"""The options that the commands of ``turnstile ctl`` share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, final

import attrs
from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ._client import Client
from ._ctl_orders import Asked, change_body
from ._options import Seconds

WHICH = Group("Which process", sort_key=8)
ANSWER = Group("The answer", sort_key=7)
CHANGE = Group("The change", sort_key=6)


@Parameter(name="*")
@final
@attrs.frozen(kw_only=True)
class Asking:
    """Which running process is asked, and how its answer is printed."""

    pid: Annotated[int | None, Parameter(group=WHICH)] = None
    """The process ID. You need not give it if only one process is running."""

    socket: Annotated[Path | None, Parameter(group=WHICH)] = None
    """The path of the control socket, if it is not where turnstile run puts it."""

    json: Annotated[bool, Parameter(negative=(), show_default=False, group=ANSWER)] = False
    """Print the answer of the process as JSON."""

    def client(self) -> Client:
        """Return the client that asks the process."""
        return self.asked.client()

    def print(self, document: Any, lines: Iterable[str]) -> None:
        """Print an answer: the document as JSON, or else the lines."""
        self.asked.print(document, lines)

    @property
    def asked(self) -> Asked:
        """The same, without the parser."""
        return Asked(self.pid, self.socket, self.json)


@Parameter(name="*", group=CHANGE)
@final
@attrs.frozen(kw_only=True)
class Change:
    """The options of a change."""

    note: str | None = None
    """The reason. It is kept with the decision, and turnstile ctl why shows it."""

    dry_run: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Show what the result would be, and change nothing."""

    def body(self, **more: object) -> dict[str, object]:
        """Return the body of the request; values that are ``None`` are left out."""
        return change_body(self.note, self.dry_run, **more)


For = Annotated[Seconds | None, Parameter(name="--for", validator=Number(gt=0), group=CHANGE)]
"""How long a change holds."""
