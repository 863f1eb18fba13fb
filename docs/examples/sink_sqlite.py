"""Load orders into SQLite, each line once: python sink_sqlite.py ORDERS DATABASE."""

import sqlite3
import sys
from contextlib import closing
from operator import itemgetter

import trio

from trio_turnstile import (
    Batch,
    Consumer,
    JsonLinesReader,
    Many,
    Processor,
    Producer,
    commit_tokens,
    open_ledger,
)

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS lines (order_id TEXT, article TEXT, cents INTEGER);
CREATE TABLE IF NOT EXISTS marks (token TEXT PRIMARY KEY) WITHOUT ROWID;
"""


def create(database):
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(SCHEMA)


def write(database, rows, tokens):
    with closing(sqlite3.connect(database)) as connection, connection:  # one transaction
        for row, token in zip(rows, tokens, strict=True):
            mark = connection.execute(
                "INSERT INTO marks VALUES (?) ON CONFLICT DO NOTHING", (token,)
            )
            if mark.rowcount:  # an earlier run has not written it
                connection.execute("INSERT INTO lines VALUES (?, ?, ?)", row)


async def split(order):
    return Many((order["id"], line["article"], line["cents"]) for line in order["lines"])


async def main(orders, database):
    async def store(rows):
        await trio.to_thread.run_sync(write, database, rows, commit_tokens())

    await trio.to_thread.run_sync(create, database)
    pipeline = (
        Producer(JsonLinesReader(orders))
        | Processor(split)
        | Consumer(store, batch=Batch(100, within=1.0), limiter=1)
    )
    async with open_ledger(f"{database}.ledger") as ledger:
        return await pipeline.run(ledger=ledger, identity=itemgetter("id"))


if __name__ == "__main__":
    report = trio.run(main, *sys.argv[1:])
    print(f"{report['store'].completed} lines stored, {report['split'].skipped} orders skipped")
