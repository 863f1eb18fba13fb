"""Copy orders from a paged HTTP API to SQLite: python cookbook_pages.py URL DATABASE LETTERS."""

import sqlite3
import sys

import httpx2
import trio

from trio_turnstile import (
    Batch,
    Consumer,
    DeadLetter,
    Overloaded,
    Processor,
    Producer,
    Retry,
    parse_retry_after,
)


class Api:
    """The requests to the API."""

    def __init__(self, client):
        self.client = client

    async def page(self, number):
        """Return the numbers of the orders on a page, and the number of the next page."""
        page = await self.get("/orders", page=number)
        return page["orders"], page["next"]

    async def order(self, number):
        return await self.get(f"/orders/{number}")

    async def get(self, path, **query):
        response = await self.client.get(path, params=query)
        if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
            raise Overloaded(parse_retry_after(response.headers.get("retry-after")))
        return response.raise_for_status().json()


async def to_row(order):
    return order["number"], order["customer"], round(100 * order["euros"])


class Orders:
    """The table of orders. SQLite blocks, so a worker thread waits for it."""

    def __init__(self, path):
        self.path = path

    async def __aenter__(self):
        self.connection = await trio.to_thread.run_sync(self.open)
        return self

    async def __aexit__(self, *_):
        self.connection.close()

    async def __call__(self, rows):
        await trio.to_thread.run_sync(self.insert, rows)

    def open(self):
        connection = sqlite3.connect(self.path, check_same_thread=False)
        connection.execute("create table if not exists orders (number unique, customer, cents)")
        return connection

    def insert(self, rows):
        with self.connection:  # one transaction for the batch
            self.connection.executemany("insert or replace into orders values (?, ?, ?)", rows)


async def main(url, database, letters_file):
    aside = DeadLetter(letters_file)
    again = Retry(3, on=Overloaded | httpx2.TransportError)
    async with httpx2.AsyncClient(base_url=url) as client:
        api = Api(client)
        pipeline = (
            Producer.pages(api.page, 1)
            | Processor(api.order, limiter=8, timeout=10, on_error=[again, aside])
            | Processor(to_row, on_error=aside)
            | Consumer(Orders(database), limiter=1, batch=Batch(100, within=1.0))
        )
        return await pipeline.run()


if __name__ == "__main__":
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
