"""Store readings in SQLite, 100 at a time: python cookbook_batches.py READINGS DATABASE REFUSED."""

import sqlite3
import sys
from contextlib import closing
from functools import partial

import trio

from trio_turnstile import (
    Batch,
    BatchError,
    Consumer,
    DeadLetter,
    JsonLinesReader,
    Log,
    Producer,
    Retry,
)

TABLE = """
create table if not exists readings (
    sensor text not null,
    minute integer not null,
    celsius real not null check (celsius > -273.15),
    primary key (sensor, minute)
)
"""
ROW = "insert into readings values (:sensor, :minute, :celsius)"


def insert(connection, readings):
    """Store a batch in one transaction, except the readings that the table refuses."""
    refused = {}
    with connection:
        for index, reading in enumerate(readings):
            try:
                connection.execute(ROW, reading)
            except sqlite3.IntegrityError as error:
                refused[index] = error
    if refused:
        raise BatchError(refused)


async def main(readings_file, database, refused_file):
    # No timeout: while another program locks the database, the batch fails at once and is retried.
    connection = sqlite3.connect(database, timeout=0, check_same_thread=False)
    with closing(connection):
        connection.execute(TABLE)
        store = Consumer(
            partial(trio.to_thread.run_sync, insert, connection),
            name="store",
            batch=Batch(100, within=1.0),
            limiter=1,
            on_error=[
                DeadLetter(refused_file, on=sqlite3.IntegrityError),
                Log(),
                Retry(5, on=sqlite3.OperationalError),
            ],
        )
        return await (Producer(JsonLinesReader(readings_file)) | store).run()


if __name__ == "__main__":
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
