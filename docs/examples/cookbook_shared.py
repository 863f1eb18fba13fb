"""Fetch all books of a library: python cookbook_shared.py URL DIRECTORY."""

import sys

import httpx2
import trio

from trio_turnstile import Consumer, Limiter, Many, Processor, Producer


async def main(url, directory):
    library = Limiter("library", 4)
    async with httpx2.AsyncClient(base_url=url) as client:

        async def get(path):
            response = await client.get(path)
            return response.raise_for_status().json()

        async def books_on(shelf):
            return Many(await get(f"/shelves/{shelf}"))

        async def book(number):
            return await get(f"/books/{number}")

        async def save(book):
            await (trio.Path(directory) / book["title"]).write_text(book["text"])

        pipeline = (
            Producer(await get("/shelves"))
            | Processor(books_on, limiter=library)
            | Processor(book, limiter=library)
            | Consumer(save)
        )
        return await pipeline.run()


if __name__ == "__main__":
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
