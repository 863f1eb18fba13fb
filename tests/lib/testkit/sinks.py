"""Sinks that store each item once: the programs of the documentation, and their inputs."""

from __future__ import annotations

import json
import random
import sqlite3
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, final

import attrs

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"

Row = tuple[str, str, int]
"""The order, the article and the cents of a line."""


def order(number: int) -> dict[str, Any]:
    """Return an order with up to three lines; some have the same line twice."""
    lines = [{"article": f"article {number % 7}", "cents": number}] * (number % 4)
    return {"id": f"order/{number}", "lines": lines}


def lines_of(orders: range) -> Counter[Row]:
    """Return how often each line must be in the database."""
    return Counter(
        (each["id"], line["article"], line["cents"])
        for each in map(order, orders)
        for line in each["lines"]
    )


def write_orders(path: Path, orders: range, seed: object) -> None:
    """Write orders to a file, shuffled."""
    shuffled = random.Random(str(seed)).sample(orders, len(orders))
    path.write_text("".join(f"{json.dumps(order(number))}\n" for number in shuffled))


class Sink(Protocol):
    """A program that stores lines in a database, and the content of this database."""

    @property
    def program(self) -> Path:
        """The program."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments after the file of orders."""
        ...

    @property
    def ledger(self) -> Path:
        """The ledger of the program."""
        ...

    @property
    def forgets(self) -> tuple[str, str]:
        """A piece of the program, and a replacement with which it forgets the marks."""
        ...

    def count(self) -> int:
        """Return how many lines are stored."""
        ...

    def rows(self) -> Counter[Row]:
        """Return how often each line is stored."""
        ...


@final
@attrs.frozen
class SQLiteSink:
    """SQLite, in a file."""

    folder: Path
    program: Path = EXAMPLES / "sink_sqlite.py"
    forgets: tuple[str, str] = ("if mark.rowcount:", "if True:")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (str(self.folder / "database"),)

    @property
    def ledger(self) -> Path:
        return self.folder / "database.ledger"

    def count(self) -> int:
        if not self.ledger.exists():  # the database is still being made
            return 0
        ((count,),) = self._query("SELECT count(*) FROM lines")
        return int(count)

    def rows(self) -> Counter[Row]:
        return Counter(self._query("SELECT order_id, article, cents FROM lines"))

    def _query(self, text: str) -> list[Any]:
        address = f"{(self.folder / 'database').as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return connection.execute(text).fetchall()


@final
@attrs.frozen
class PostgresSink:
    """A database of its own in a PostgreSQL server."""

    folder: Path
    conninfo: str
    program: Path = EXAMPLES / "sink_postgres.py"
    forgets: tuple[str, str] = ("if token in new", "if True")

    @property
    def arguments(self) -> tuple[str, ...]:
        return (self.conninfo, str(self.ledger))

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def count(self) -> int:
        import psycopg

        try:
            ((count,),) = self._query("SELECT count(*) FROM lines")
        except psycopg.errors.UndefinedTable:  # the table does not exist yet
            return 0
        return int(count)

    def rows(self) -> Counter[Row]:
        return Counter(self._query("SELECT order_id, article, cents FROM lines"))

    def _query(self, text: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.conninfo) as connection:
            return connection.execute(text).fetchall()


@contextmanager
def postgres_sink(server: str, folder: Path) -> Iterator[PostgresSink]:
    """Make a database, and drop it at the end."""
    import psycopg

    name = f"sink_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield PostgresSink(folder, server.replace("dbname=postgres", f"dbname={name}"))
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
