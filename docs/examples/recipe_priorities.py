"""Two priorities in one queue: python recipe_priorities.py."""

import heapq
import math
from enum import IntEnum
from itertools import count

import trio

from trio_turnstile import Consumer, Producer


class Priority(IntEnum):
    URGENT = 0
    ORDINARY = 1


async def by_priority(jobs):
    """Yield the jobs of a channel, always the most urgent of the waiting jobs first."""
    waiting, numbers = [], count()
    try:
        while True:
            if not waiting:
                priority, job = await jobs.receive()
                heapq.heappush(waiting, (priority, next(numbers), job))
            try:
                while True:
                    priority, job = jobs.receive_nowait()
                    heapq.heappush(waiting, (priority, next(numbers), job))
            except (trio.WouldBlock, trio.EndOfChannel):
                yield heapq.heappop(waiting)[2]
    except trio.EndOfChannel:
        return


async def main(work, feed):
    """Run ``feed``, which sends pairs of a priority and a job, and ``work`` for each job."""
    send, receive = trio.open_memory_channel(math.inf)
    pipeline = Producer(by_priority(receive)) | Consumer(work, limiter=1)
    async with trio.open_nursery() as nursery:
        running = await nursery.start(pipeline.run)
        with send:
            await feed(send)
    return running.report()


async def show(job):
    print(job)
    await trio.sleep(0.1)


async def some_jobs(jobs):
    for number in range(4):
        await jobs.send((Priority.ORDINARY, f"ordinary {number}"))
    await trio.sleep(0.05)
    await jobs.send((Priority.URGENT, "urgent"))


if __name__ == "__main__":
    trio.run(main, show, some_jobs)
