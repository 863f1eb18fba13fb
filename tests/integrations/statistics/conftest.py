"""A database for each test: SQLite in a file, or one in a PostgreSQL server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.recorded import Recorded


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Recorded]:
    """A file that does not exist yet."""
    with Recorded.open(f"sqlite:///{tmp_path / 'statistics.db'}") as recorded:
        yield recorded


@pytest.fixture
def postgresql(postgres: str) -> Iterator[Recorded]:
    """A database in a server that all tests share."""
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
    """Each of the two databases."""
    recorded: Recorded = request.getfixturevalue(request.param)
    return recorded
