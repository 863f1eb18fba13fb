"""Load orders into PostgreSQL, each line once: python sink_postgres.py ORDERS CONNINFO LEDGER."""

import sys
from operator import itemgetter

import psycopg
import trio

from trio_turnstile import (
    Batch,
    Consumer,
    JsonLinesReader,
    Many,
    Processor,
    Producer,
    Retry,
    commit_tokens,
    open_ledger,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS lines (order_id text, article text, cents integer);
CREATE TABLE IF NOT EXISTS marks (token text PRIMARY KEY);
"""

MARK = """
INSERT INTO marks SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING RETURNING token
"""


def create(conninfo):
    with psycopg.connect(conninfo) as connection:
        connection.execute(SCHEMA)


def write(conninfo, rows, tokens):
    with psycopg.connect(conninfo) as connection:  # one transaction
        new = {token for (token,) in connection.execute(MARK, [list(tokens)])}
        connection.cursor().executemany(
            "INSERT INTO lines VALUES (%s, %s, %s)",
            [row for row, token in zip(rows, tokens, strict=True) if token in new],
        )


async def split(order):
    return Many((order["id"], line["article"], line["cents"]) for line in order["lines"])


async def main(orders, conninfo, ledger_file):
    async def store(rows):
        await trio.to_thread.run_sync(write, conninfo, rows, commit_tokens())

    await trio.to_thread.run_sync(create, conninfo)
    pipeline = (
        Producer(JsonLinesReader(orders))
        | Processor(split)
        | Consumer(
            store,
            batch=Batch(100, within=1.0),
            limiter=2,
            on_error=Retry(5, on=psycopg.OperationalError),
        )
    )
    async with open_ledger(ledger_file) as ledger:
        return await pipeline.run(ledger=ledger, identity=itemgetter("id"))


if __name__ == "__main__":
    report = trio.run(main, *sys.argv[1:])
    print(f"{report['store'].completed} lines stored, {report['split'].skipped} orders skipped")
