"""Which running process is meant: those that answer on a control socket, and the choice of one."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import final

import attrs

from ._arguments import UsageError
from ._client import Client, Document
from ._exit_status import UNANSWERED, NotDone

_SOON = 2.0
"""Seconds in which a process that has just been started may begin to answer."""

_LOOK_AGAIN = 0.05

_PROMPT = 1.0
"""Seconds that a process may take to say who it is."""


@final
@attrs.frozen
class Process:
    """A process that has a control socket."""

    path: Path
    """Its socket."""

    @property
    def pid(self) -> str:
        """Its number, which is the name of its socket."""
        return self.path.stem

    def is_there(self) -> bool:
        """Tell whether anything listens at the socket: one that was killed leaves its file."""
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(_PROMPT)
            try:
                tried.connect(str(self.path))
            except BlockingIOError:  # it is there, and too busy to let us in
                return True
            except OSError:
                return False
        return True

    def client(self) -> Client:
        """Return what asks it."""
        return Client(str(self.path))

    def describe(self) -> str:
        """Return one line about it, also if it does not answer."""
        try:
            run: Document = Client(str(self.path), _PROMPT).get("/")["run"]
        except (NotDone, UsageError, KeyError, TypeError):
            return f"{self.pid} (it does not answer)"
        started = time.strftime("%H:%M:%S", time.localtime(run.get("started") or 0))
        return f"{self.pid} {run.get('name') or ''}, since {started}".replace(" ,", ",")


def choose_process(pid: int | None, path: Path | None) -> Process:
    """Return the process that is meant: the only one, if neither argument names one.

    Raises:
      UsageError: if several might be meant.
      NotDone: if there is none.
    """
    if path is not None:
        return Process(path)
    if pid is not None:
        return _process_of(pid)
    found = wait_for_processes()
    if len(found) > 1:
        lines = "\n".join(f"  --pid {each.describe()}" for each in found)
        raise UsageError(f"{len(found)} processes are running, so choose one:\n{lines}")
    return found[0]


def wait_for_processes() -> list[Process]:
    """Return the processes that are there; wait a little for the first one.

    Raises:
      NotDone: if none comes.
    """
    deadline = time.monotonic() + _SOON
    while not (found := find_processes()):
        if time.monotonic() >= deadline:
            folders = " or ".join(map(str, socket_folders()))
            raise NotDone(
                f"nobody answers: no process of yours has a control socket in {folders}",
                UNANSWERED,
            )
        time.sleep(_LOOK_AGAIN)
    return found


def find_processes() -> list[Process]:
    """Return the processes of this user that listen, by their numbers."""
    paths = [path for folder in socket_folders() for path in folder.glob("*.sock")]
    found = [process for path in paths if (process := Process(path)).is_there()]
    return sorted(found, key=lambda process: (len(process.pid), process.pid))


def socket_folders() -> list[Path]:
    """Return where the control sockets of this user are."""
    from tempfile import gettempdir

    runtime = os.environ.get("XDG_RUNTIME_DIR")
    shared = Path(gettempdir()) / f"turnstile-{os.getuid()}"
    return [*([Path(runtime) / "turnstile"] if runtime else []), shared]


def _process_of(pid: int) -> Process:
    for folder in socket_folders():
        process = Process(folder / f"{pid}.sock")
        if process.is_there():
            return process
    raise NotDone(f"nobody answers: process {pid} has no control socket", UNANSWERED)
