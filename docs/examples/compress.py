"""Compress the files of a directory: python compress.py DIRECTORY."""

import gzip
import shutil
import sys
from pathlib import Path

import trio

from trio_turnstile import Scalable, run_phases


class Compress(Scalable):
    def __init__(self, path):
        self.path = path
        self.packed = path.with_name(path.name + ".gz")
        self.unfinished = path.with_name(path.name + ".unfinished")

    @property
    def identifiers(self):
        return (self.path.name,)

    async def work(self, channels):
        await trio.to_thread.run_sync(self.pack)
        self.unfinished.rename(self.packed)

    def pack(self):
        with self.path.open("rb") as plain, gzip.open(self.unfinished, "wb") as packed:
            shutil.copyfileobj(plain, packed)

    async def cleanup(self, channels):
        self.unfinished.unlink(missing_ok=True)


async def main(directory):
    operations = (Compress(path) for path in sorted(directory.iterdir()))
    report = await run_phases(operations, limiter=4)
    print(f"{report.completed} compressed, {report.failed} failed")
    for error in report.errors:
        print(f"{error.identifiers[0]}: {error.phase}: {error.__cause__.strerror}")


trio.run(main, Path(sys.argv[1]))
