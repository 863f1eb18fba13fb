"""A database of its own for each test: SQLite in a file, or one in a PostgreSQL server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.recorded import Recorded


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Recorded]:
    """A file that is not there yet."""
    with Recorded.open(f"sqlite:///{tmp_path / 'statistics.db'}") as recorded:
        yield recorded


@pytest.fixture
def postgresql(postgres: str) -> Iterator[Recorded]:
    """A database in a server that is there for all tests."""
    import psycopg

    folder = postgres.split()[0].removeprefix("host=")
    name = f"statistics_{uuid.uuid4().hex}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        with Recorded.open(f"postgresql://tests@/{name}?host={folder}") as recorded:
            yield recorded
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Recorded:
    """One of both."""
    recorded: Recorded = request.getfixturevalue(request.param)
    return recorded
