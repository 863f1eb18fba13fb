"""Merge a backlog with live readings: python cookbook_merge.py BACKLOG ALL PORT ..."""

import json
import sys
from functools import partial

import trio

from trio_turnstile import (
    DISCARD,
    Consumer,
    JsonLinesReader,
    JsonLinesWriter,
    Processor,
    Producer,
)


async def listen(port):
    """Yield the readings of a station, one line of JSON each, until the station hangs up."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        begun = b""
        async for data in stream:
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                yield json.loads(line)


async def plausible(reading):
    return reading if reading["celsius"] > -273.15 else DISCARD


async def main(backlog_file, all_file, *ports):
    backlog = Producer(JsonLinesReader(backlog_file))
    stations = [Producer(partial(listen, int(port))) for port in ports]
    pipeline = (
        Producer.merge(backlog, *stations)
        | Processor(plausible)
        | Consumer(JsonLinesWriter(all_file))
    )
    return await pipeline.run()


if __name__ == "__main__":
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
