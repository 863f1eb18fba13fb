"""A PostgreSQL server of our own, for as long as the tests need it."""

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
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60.0
"""Seconds after which a server that does not answer is taken to have failed."""

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
"""Where packages put the programs of the server, if they are not on the path."""

NEW = ("-D", "data", "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
"""How to make a cluster."""

RUN = ("-D", "data", "-h", "", "-c", "fsync=off")
"""How to run a server, but for the folder of its socket."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server, and give the string that connects to it; skip the test if there is none.

    It listens on a socket in its own folder and on no port. It refuses to run as root, so then
    it runs as another user, who can read no folder that pytest makes; it has one elsewhere.
    """
    try:
        import psycopg
    except ImportError as error:  # of the package, or of the library beneath it
        pytest.skip(f"psycopg cannot be imported: {error}")
    programs, user = _programs(), _user()
    with tempfile.TemporaryDirectory(prefix="turnstile-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user["user"], user["group"])
        with (folder / "log").open("wb") as log:
            options: dict[str, Any] = {"cwd": folder, "stdout": log, "stderr": log, **user}
            subprocess.run([programs / "initdb", *NEW], check=True, **options)
            server = subprocess.Popen([programs / "postgres", *RUN, "-k", folder], **options)
        conninfo = f"host={folder} user=tests dbname=postgres"
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    psycopg.connect(conninfo).close()
                    break
                except psycopg.OperationalError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
            yield conninfo
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            server.wait(PATIENCE)


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
    """Return who is to run the server, if we may not."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody")
