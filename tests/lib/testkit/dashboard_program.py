"""A program whose page is tested: it prints the address, and works until it is killed.

python dashboard_program.py TOKEN SOCKET [TEXT [recorded]]
"""

from __future__ import annotations

import sys
from functools import partial
from typing import final

import attrs
import trio

from trio_turnstile import Consumer, Processor, Producer, Skip, Throttle, open_turnstile
from trio_turnstile.integrations import dashboard
from trio_turnstile.integrations.control import serve_control
from trio_turnstile.limits import KneeLimit


async def fetch(text: str, number: int) -> int:
    await trio.sleep(0.1 + number % 7 / 50)
    if number % 100 == 7:
        raise OSError(f"{text}: {number}")
    return number


async def store(number: int) -> None:
    await trio.sleep(0.02 + number % 5 / 100)


@final
@attrs.frozen
class Point:
    """How busy a limiter was."""

    time: float
    limit: float
    running: float
    waiting: float


class Recorded:
    """Two earlier runs of the program; one of the limiters cannot be read."""

    def points(self, limiter: str, since: float, until: float, most: int) -> list[Point]:
        """Return points of the first and of the last fifth of the time, except its end."""
        if limiter == "search":
            raise OSError("the disk is gone")
        width = (until - since) / (most - 2)
        early = range(most // 5)
        late = range(most * 4 // 5, most - most // 50)
        return [
            Point(since + place * width, 12 + place % 90 // 30, 6 + place % 7, place % 5)
            for place in (*early, *late)
        ]


async def main(
    token: str, socket: str, text: str = "cannot reach page", recorded: str = ""
) -> None:
    async with (
        open_turnstile(name="crawler", sample_every=0.5) as turnstile,
        trio.open_nursery() as nursery,
    ):
        serve = partial(
            serve_control,
            turnstile,
            path=socket,
            port=0,
            token=token,
            page=dashboard.make_page,
            history=Recorded() if recorded else None,
        )
        served = await nursery.start(serve)
        api = turnstile.limiter("api", 20, throttle=Throttle(hold=0))
        database = turnstile.limiter("database", 8, throttle=Throttle(hold=0))
        turnstile.limiter("search", 40, policy=KneeLimit(5))
        print(dashboard.address(served.port, token), flush=True)
        fetching = Processor(partial(fetch, text), name="fetch", limiter=api, on_error=Skip())
        storing = Consumer(store, limiter=database)
        await (Producer(range(10**6)) | fetching | storing).run(name="crawl")


if __name__ == "__main__":
    trio.run(partial(main, *sys.argv[1:]))
