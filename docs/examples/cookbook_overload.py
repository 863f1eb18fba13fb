"""Lower the limit when the server is overloaded: python cookbook_overload.py URL COUNT FILE."""

import logging
import sys

import httpx2
import trio

from trio_turnstile import (
    Consumer,
    JsonLinesWriter,
    Overloaded,
    Processor,
    Producer,
    Retry,
    Throttle,
    log_decisions,
    open_turnstile,
)


async def main(url, count, file, hold=5.0):
    async with (
        open_turnstile(observers=[log_decisions]) as turnstile,
        httpx2.AsyncClient(base_url=url) as client,
    ):
        api = turnstile.limiter("api", 9, throttle=Throttle(down=2, min=1, hold=hold))

        async def square(number):
            response = await client.get(f"/square/{number}")
            if response.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
                api.down()
                raise Overloaded
            return response.raise_for_status().json()

        pipeline = (
            Producer(range(int(count)))
            | Processor(square, limiter=api, on_error=[Retry(10, on=Overloaded)])
            | Consumer(JsonLinesWriter(file))
        )
        return await pipeline.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
