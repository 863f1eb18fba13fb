"""Connections to a statistics database: SQLite in a file, or PostgreSQL.

All of this blocks, and is called in a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite

from . import _schema as schema
from ._errors import StatisticsError

PATIENCE = 5
"""Seconds to wait for a lock of SQLite, or for a connection to PostgreSQL."""

_LOCK = 7_486_173_205
"""The number of the lock under which tables are made in PostgreSQL, one process at a time."""

_POSTGRES: dict[str, Any] = {
    "connect_timeout": PATIENCE,
    "tcp_user_timeout": 1000 * PATIENCE,
    "application_name": "trio_turnstile",
    "options": "-c statement_timeout=30s",
}


def check_url(url: str) -> sa.URL:
    """Return the address of a database.

    Raises:
      ValueError: if it is not an address of SQLite in a file, or of PostgreSQL.
    """
    try:
        address = sa.make_url(url)
    except exc.ArgumentError:
        raise ValueError(
            f"{url!r} is not an address of a database: use sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if address.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return address.set(drivername="postgresql+psycopg")
    if address.drivername == "sqlite":
        return _check_file(address)
    raise ValueError(
        f"statistics are kept in SQLite or PostgreSQL, not in {address.drivername}: use "
        "sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    )


def _check_file(address: sa.URL) -> sa.URL:
    if address.database in (None, "", ":memory:"):
        raise ValueError(
            "an SQLite database in memory is lost at the end of the program: name a file, as in "
            "sqlite:///turnstile.db"
        )
    folder = Path(str(address.database)).absolute().parent
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r} for the database: make it first")
    return address


def connect(address: sa.URL) -> sa.Engine:
    """Return an engine that has not connected yet."""
    if address.drivername == "sqlite":
        engine = sa.create_engine(address, connect_args={"timeout": PATIENCE})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return sa.create_engine(address, pool_size=1, pool_pre_ping=True, connect_args=dict(_POSTGRES))


def connect_to_read(url: str) -> sa.Engine:
    """Return an engine for an existing database; nothing is made.

    Raises:
      ValueError: if the address is not valid.
      StatisticsError: if there is no such file.
    """
    address = check_url(url)
    if address.drivername != "sqlite":
        return connect(address)
    if not Path(str(address.database)).exists():
        raise StatisticsError(f"there is no file {address.database!r}: record_statistics makes it")
    return sa.create_engine(address, connect_args={"timeout": PATIENCE})


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    for pragma in ("journal_mode=wal", "synchronous=normal", "foreign_keys=on"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once if another process has
    # written in between; this one waits for its turn.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction.

    Raises:
      StatisticsError: if the file is not a database; the message says so plainly.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except exc.DatabaseError as error:
        if "not a database" not in str(error.orig):
            raise
        raise StatisticsError(
            f"{engine.url.database!r} is a file, but not a database: choose another name"
        ) from error


def make_tables(engine: sa.Engine) -> None:
    """Make the tables, or upgrade tables of an older version.

    Raises:
      StatisticsError: if the tables have a newer version.
    """
    with transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = version_of(connection)
        if found is None:
            schema.METADATA.create_all(connection)
            connection.execute(sa.insert(schema.META).values(version=schema.VERSION))
            return
        for statement in schema.upgrades(found):
            connection.execute(sa.text(statement))
        connection.execute(sa.update(schema.META).values(version=schema.VERSION))


def version_of(connection: sa.Connection) -> int | None:
    """Return the version of the tables; ``None`` if there are no tables.

    Raises:
      StatisticsError: if the tables have a newer version.
    """
    if not sa.inspect(connection).has_table(schema.META.name):
        return None
    found = connection.execute(sa.select(schema.META.c.version)).scalar_one()
    if found > schema.VERSION:
        raise StatisticsError(
            f"the statistics in {shown(connection.engine)} have version {found}, but this "
            f"trio_turnstile knows versions up to {schema.VERSION}: upgrade it, or choose another "
            "database"
        )
    return int(found)


def shown(engine: sa.Engine) -> str:
    """Return the address of a database without its password."""
    return engine.url.render_as_string(hide_password=True)


def insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an ``INSERT`` that can handle existing rows."""
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    return dialect.insert(table)


def add(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Add rows; existing rows stay unchanged."""
    if rows:
        connection.execute(insert(connection, table).on_conflict_do_nothing(), rows)


def merge(
    connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], key: tuple[str, ...]
) -> None:
    """Add rows, replacing existing rows with the same key."""
    if not rows:
        return
    statement = insert(connection, table)
    new = {name: statement.excluded[name] for name in rows[0] if name not in key}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=new), rows)
