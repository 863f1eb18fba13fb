"""Fetch the pages of a GraphQL API that counts points: python recipe_graphql.py URL PAGES FILE."""

import sys

import httpx2
import trio

from trio_turnstile import Budget, JsonLinesWriter, Overloaded, RateLimiter, retry
from trio_turnstile import Retry as Again

QUERY = "query { items(page: %d) { name } rateLimit { cost remaining } }"


async def main(url, pages, file, points=5000):
    budget = Budget(points=RateLimiter.per(points, seconds=3600))
    usual = 10.0  # points of a query, as a running mean

    async with httpx2.AsyncClient(base_url=url) as client, JsonLinesWriter(file) as write:

        async def fetch(page):
            nonlocal usual
            async with budget.reserve(points=usual) as spending:
                response = await client.post("/graphql", json={"query": QUERY % page})
                budget.observe_headers(response.headers)
                if response.status_code in (403, 429):
                    spending.cancel()
                    raise Overloaded
                data = response.raise_for_status().json()["data"]
                spending.settle(points=data["rateLimit"]["cost"])
            usual += (data["rateLimit"]["cost"] - usual) / 20
            await write(data["items"])

        async with trio.open_nursery() as nursery:
            for page in range(int(pages)):
                nursery.start_soon(retry, Again(3, on=Overloaded), fetch, page)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
