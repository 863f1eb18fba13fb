"""A PostgreSQL server that runs as long as the tests need it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, final

import pytest

PATIENCE = 60.0
"""Seconds after which a server that does not answer is considered to have failed."""

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
"""Where packages put the programs of the server, if they are not on the path."""

NEW = ("-D", "data", "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
"""The options of ``initdb``."""

RUN = ("-D", "data", "-h", "", "-c", "fsync=off")
"""The options of the server, except the folder of its socket."""


@final
class Cluster:
    """A server that can be killed, stopped, and started again.

    It listens on a socket in its own folder and on no port. It refuses to run as root. If the
    tests run as root, it runs as another user, who cannot read the folders that pytest makes.

    Args:
      folder: an empty folder of its own, outside of those that pytest makes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conninfo = f"host={folder} user=tests dbname=postgres"
        self._programs, user = _programs(), _user()
        if user:
            shutil.chown(folder, user["user"], user["group"])
        self._options: dict[str, Any] = {"cwd": folder, **user}
        self._run([self._programs / "initdb", *NEW])
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        import psycopg

        command: list[Any] = [self._programs / "postgres", *RUN, "-k", self.folder]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, **self._options)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.conninfo).close()
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """End all its processes, whatever they are doing."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(PATIENCE)

    def freeze(self) -> None:
        """Stop all its processes, so that it answers nothing."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all its processes go on."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Shut it down."""
        self._server.send_signal(signal.SIGINT)  # a fast shutdown
        self._server.wait(PATIENCE)

    def _run(self, command: list[Any]) -> None:
        with (self.folder / "log").open("ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, **self._options)

    def _signal_all(self, number: signal.Signals) -> None:
        self._server.send_signal(number)
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._server.pid)],
            check=True,
            capture_output=True,
            text=True,
        )
        for process in listed.stdout.split():
            os.kill(int(process), number)


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """Make a cluster and start its server; skip the test if there is none."""
    try:
        import_module("psycopg")
    except ImportError as error:  # psycopg is missing, or libpq, which it needs
        pytest.skip(f"psycopg cannot be imported: {error}")
    with tempfile.TemporaryDirectory(prefix="turnstile-", ignore_cleanup_errors=True) as name:
        cluster = Cluster(Path(name))
        try:
            yield cluster
        finally:
            cluster.close()


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server, and yield its connection string; skip the test if there is none."""
    with postgres_cluster() as cluster:
        yield cluster.conninfo


def _programs() -> Path:
    found = shutil.which("postgres")
    if found is not None and shutil.which("initdb") is not None:
        return Path(found).parent
    for place in PLACES:
        for folder in sorted(Path("/").glob(place.lstrip("/")), reverse=True):
            if (folder / "initdb").exists():
                return folder
    pytest.skip("PostgreSQL is not installed: neither initdb nor postgres is in a usual place")


def _user() -> dict[str, Any]:
    """Return the user that must run the server, if this user cannot."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
