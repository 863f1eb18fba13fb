"""A service has twelve workers. An adaptive limit finds that out."""

import trio
import trio.testing

from trio_turnstile import open_turnstile
from trio_turnstile.limits import KneeLimit

workers = trio.CapacityLimiter(12)  # stands in for a remote service


async def caller(api):
    while True:
        async with api, workers:
            await trio.sleep(0.1)


async def main():
    async with open_turnstile() as turnstile, trio.open_nursery() as nursery:
        api = turnstile.limiter("api", 100, policy=KneeLimit(4))
        for _ in range(50):
            nursery.start_soon(caller, api)
        await trio.sleep(60)
        print("Does the limit fit twelve workers?", 10 <= api.total_tokens <= 20)
        nursery.cancel_scope.cancel()


# This clock jumps ahead whenever all tasks are waiting, so the minute takes a second or two.
trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
