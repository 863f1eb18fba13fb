"""Settings and fixtures for all tests."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("testkit")  # before it is imported for the first time

# A machine that is busy with other things must not make a test fail.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# A shell that started the tests in the background, with these signals ignored, must not either.
signal.signal(signal.SIGINT, signal.default_int_handler)
if sys.platform != "win32":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
else:  # these need named pipes, resource limits, or the command, which is only for POSIX systems
    collect_ignore = [
        "cli",
        "clusters",
        "ledger/test_sinks.py",
        "pipelines/test_jsonlines_files.py",
        "soak/test_kills.py",
        "soak/test_sinks.py",
        "test_cookbook.py",
        "test_recipes.py",
    ]


@pytest.fixture
def interrupted() -> Callable[..., bool]:
    """`testkit.interrupts.interrupted`: runs a function and presses Ctrl-C at some point in it."""
    from testkit.interrupts import interrupted

    return interrupted


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A string that connects to a PostgreSQL server, which all tests that ask for it share."""
    from testkit.postgres import postgres_server

    with postgres_server() as conninfo:
        yield conninfo
