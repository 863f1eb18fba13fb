"""Edit many documents at once: python cookbook_order.py EDITS DIRECTORY."""

import sys
from operator import itemgetter

import trio

from trio_turnstile import Consumer, JsonLinesReader, Producer


async def main(edits_file, directory):
    async def edit(edit):
        """Add a line to a document. No other edit of the same document may run meanwhile."""
        path = trio.Path(directory) / edit["document"]
        text = await path.read_text() if await path.exists() else ""
        await path.write_text(f"{text}{edit['line']}\n")

    edits = Producer(JsonLinesReader(edits_file))
    return await (edits | Consumer(edit, limiter=8, key=itemgetter("document"))).run()


if __name__ == "__main__":
    for step in trio.run(main, *sys.argv[1:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
