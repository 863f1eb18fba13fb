"""The running processes that have a control socket, and the choice of one of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from trio_turnstile.integrations.control.sockets import live_sockets, socket_folder

from ._arguments import UsageError
from ._client import Client, Document
from ._exit_status import UNANSWERED, NotDone

_SOON = 5.0
"""How many seconds to wait for a process that has just been started."""

_LOOK_AGAIN = 0.05

_PROMPT = 1.0
"""How many seconds a process may take to give its name."""


class Process(NamedTuple):
    """A process that has a control socket.

    It is not an attrs class, as importing attrs takes a fifth of the time of ``turnstile ctl set``.
    """

    path: Path
    """Its socket."""

    @property
    def pid(self) -> str:
        """Its process ID, which is the name of its socket."""
        return self.path.stem

    def client(self) -> Client:
        """Return the client that asks it."""
        return Client(str(self.path))

    def describe(self) -> str:
        """Return one line about it, even if it does not answer."""
        try:
            run: Document = Client(str(self.path), _PROMPT).get("/")["run"]
        except (NotDone, UsageError, KeyError, TypeError):
            return f"{self.pid} (it does not answer)"
        started = time.strftime("%H:%M:%S", time.localtime(run.get("started") or 0))
        return f"{self.pid} {run.get('name') or ''}, since {started}".replace(" ,", ",")


def choose_process(pid: int | None, path: Path | None) -> Process:
    """Return the process that an argument names, or else the only process.

    Raises:
      UsageError: if neither argument is given, and there are several.
      NotDone: if there is no process.
    """
    if path is not None:
        return Process(path)
    if pid is not None:
        return Process(socket_folder() / f"{pid}.sock")
    found = wait_for_processes()
    if len(found) > 1:
        lines = "\n".join(f"  --pid {each.describe()}" for each in found)
        raise UsageError(f"{len(found)} processes are running; choose one of them:\n{lines}")
    return found[0]


def wait_for_processes() -> list[Process]:
    """Return the processes that exist; wait a little for the first one.

    Raises:
      NotDone: if none comes.
    """
    deadline = time.monotonic() + _SOON
    while not (found := find_processes()):
        if time.monotonic() >= deadline:
            raise NotDone(
                f"nobody answers: no process of yours has a control socket in {socket_folder()}",
                UNANSWERED,
            )
        time.sleep(_LOOK_AGAIN)
    return found


def find_processes() -> list[Process]:
    """Return the processes of this user that listen, sorted by process ID.

    Raises:
      NotDone: if the folder of the sockets belongs to another user.
    """
    try:
        found = [Process(path) for path in live_sockets()]
    except PermissionError as error:
        raise NotDone(f"{error.filename}: {error.strerror}", UNANSWERED) from None
    return sorted(found, key=lambda process: (len(process.pid), process.pid))
