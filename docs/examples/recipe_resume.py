"""Load the rows that are not loaded yet: python recipe_resume.py SOURCE TARGET."""

import json
import sys

import trio

from trio_turnstile import (
    DISCARD,
    Batch,
    Consumer,
    JsonLinesBatchWriter,
    JsonLinesReader,
    Processor,
    Producer,
)


def whole_or_none(line):
    try:
        return json.loads(line)
    except ValueError:
        return None  # the last line, if a crash cut it off


async def read_ids(file):
    ids = set()
    if await trio.Path(file).exists():
        async for row in JsonLinesReader(file, decode=whole_or_none):
            if row is not None:
                ids.add(row["id"])
    return ids


async def transform(row):
    await trio.sleep(0.001)  # stands for a request
    return {"id": row["id"], "euros": row["cents"] / 100}


async def main(source, target):
    done = await read_ids(target)

    async def new(row):
        return DISCARD if row["id"] in done else row

    pipeline = (
        Producer(JsonLinesReader(source))
        | Processor(new)
        | Processor(transform, limiter=8)
        | Consumer(JsonLinesBatchWriter(target), batch=Batch(100, within=1.0))
    )
    return await pipeline.run()


if __name__ == "__main__":
    report = trio.run(main, *sys.argv[1:])
    print(f"{report['transform'].completed} loaded, {report['new'].discarded} were there")
