"""Call an API with an unknown limit: python recipe_http.py URL COUNT FILE."""

import sys

import httpx2
import trio

from trio_turnstile import (
    Consumer,
    JsonLinesWriter,
    Overloaded,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    open_turnstile,
)
from trio_turnstile.limits import KneeLimit

BUSY = (httpx2.codes.TOO_MANY_REQUESTS, httpx2.codes.SERVICE_UNAVAILABLE)


async def main(url, count, file, per_second=50.0):
    pool = httpx2.Limits(max_connections=None)  # the limiter bounds the connections
    async with (
        open_turnstile() as turnstile,
        httpx2.AsyncClient(base_url=url, limits=pool) as client,
    ):
        api = turnstile.limiter("api", 100, policy=KneeLimit(4))

        async def fetch(number):
            response = await client.get(f"/items/{number}")
            if response.status_code in BUSY:
                wait = response.headers.get("Retry-After")
                raise Overloaded(None if wait is None else float(wait))
            return response.raise_for_status().json()

        pipeline = (
            Producer(range(int(count)))
            | Processor(
                fetch,
                limiter=api,
                rate=RateLimiter(per_second, burst=10),
                timeout=10,
                on_error=[Retry(None, on=(Overloaded, httpx2.TransportError), within=60.0)],
            )
            | Consumer(JsonLinesWriter(file))
        )
        return await pipeline.run()


if __name__ == "__main__":
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
