"""Fetch thirty pages, three at once; retry failed fetches, and store the pages in tens."""

import trio

from trio_turnstile import Batch, Consumer, Processor, Producer, Retry

failed = set()


async def fetch(number):
    await trio.sleep(0.02)  # stands for a request
    if number % 7 == 0 and number not in failed:
        failed.add(number)
        raise ConnectionError("the service hung up")
    return f"page {number}"


async def store(pages):
    await trio.sleep(0.01)  # stands for a write to a database
    print(f"stored {len(pages)} pages")


async def main():
    pipeline = (
        Producer(range(30))
        | Processor(fetch, limiter=3, on_error=[Retry(2, on=ConnectionError)])
        | Consumer(store, batch=Batch(10))
    )
    report = await pipeline.run()
    for step in report.steps:
        print(f"{step.name}: {step.completed} of {step.received}, {step.retried} retries")


trio.run(main)
