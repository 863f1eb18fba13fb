"""Real engines for tests: a Slurm and a Grid Engine, started from a bare machine."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from trio_turnstile.clusters import Engine, SgeEngine, SlurmEngine

SCRIPTS = Path(__file__).parent / "engines"


@pytest.hookimpl(tryfirst=True)  # before xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start each engine in only one process, if tests run in several."""
    for item in items:
        name = item.name.partition("[")[2] if "site" in getattr(item, "fixturenames", ()) else ""
        for engine in ("slurm", "sge"):
            if name.startswith(engine) or engine in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(engine))


@attrs.frozen
class Site:
    """A cluster that runs on this machine, for tests."""

    engine: Engine
    prefix: Path
    pid_file: Path
    restart: Callable[[], object]

    def signal_controller(self, number: signal.Signals) -> None:
        os.kill(int(self.pid_file.read_text()), number)


def free_port() -> int:
    """Return a port that is free, as are the nine after it.

    It is below those that the system gives to connections, which come and go meanwhile.
    """
    for port in random.sample(range(20_000, 30_000, 10), 100):
        if all(is_free(port + more) for more in range(10)):
            return port
    raise AssertionError("no ten ports in a row are free")


def is_free(port: int) -> bool:
    """Tell whether nothing listens on a port."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def started(name: str, port: int, *options: str) -> Iterator[Path]:
    """Start an engine, and stop it at the end; skip the tests if it is not available."""
    if not os.environ.get("TURNSTILE_ENGINES"):
        pytest.skip(
            f"to start {name} takes minutes: set TURNSTILE_ENGINES=1, or run nox -s engines"
        )
    if os.geteuid() or not shutil.which("apt-get"):
        pytest.skip(f"to start {name}, its packages have to be installed by root, on Debian")
    # Not under the directories of pytest, whose long paths are too long for sockets.
    prefix = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    script = [SCRIPTS / f"{name}.sh"]
    run = subprocess.run(
        [*script, "up", prefix, str(port), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(log := (prefix / "up.log").open("w+")),
        check=False,
    )
    log.seek(0)
    said = log.read()
    log.close()
    try:
        if run.returncode:
            pytest.skip(f"{name} cannot be started here: {said[-2000:]}")
        yield prefix
    finally:
        subprocess.run([*script, "down", prefix, str(port)], check=False, capture_output=True)
        shutil.rmtree(prefix, ignore_errors=True)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Site]:
    """A Slurm of three virtual nodes."""
    yield from _slurms()


@pytest.fixture
def accounted_slurm() -> Iterator[Site]:
    """A Slurm with accounting, and with limits per user."""
    yield from _slurms("accounted")


def _slurms(*options: str) -> Iterator[Site]:
    for prefix in started("slurm", free_port(), *options):
        environment = {"SLURM_CONF": str(prefix / "etc" / "slurm.conf")}

        def restart(environment: dict[str, str] = environment) -> None:
            subprocess.run(["/usr/sbin/slurmctld"], env={**os.environ, **environment}, check=True)

        engine = SlurmEngine(environment=environment)
        yield Site(engine, prefix, prefix / "run" / "slurmctld.pid", restart)


@pytest.fixture(scope="session")
def sge() -> Iterator[Site]:
    """A Grid Engine of one node."""
    port = free_port()
    for prefix in started("sge", port):
        environment = {
            "SGE_ROOT": str(prefix / "root"),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(port),
            "SGE_EXECD_PORT": str(port + 1),
        }

        def restart(prefix: Path = prefix) -> None:
            subprocess.run([SCRIPTS / "sge.sh", "master", prefix, str(port)], check=True)

        engine = SgeEngine(environment=environment, programs="/usr/lib/gridengine")
        yield Site(engine, prefix, prefix / "qmaster" / "qmaster.pid", restart)


@pytest.fixture(params=["slurm", "sge"])
def site(request: pytest.FixtureRequest) -> Site:
    """Each of the engines."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Site)
    return found
