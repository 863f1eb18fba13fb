"""A service can handle five calls at once, but we do not know that."""

import trio

from trio_turnstile import Throttle, open_turnstile


class Busy(Exception):
    """The answer of the service when it has too much to do."""


class Service:
    def __init__(self):
        self.calling = 0

    async def answer(self):
        self.calling += 1
        try:
            await trio.sleep(0.02)
            if self.calling > 5:
                raise Busy
        finally:
            self.calling -= 1


async def ask(service, api):
    async with api:
        try:
            await service.answer()
        except Busy:
            api.down()


async def main():
    service = Service()
    async with open_turnstile() as turnstile:
        api = turnstile.limiter("api", 9, throttle=Throttle(hold=0.2))
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(ask, service, api)
        for decision in api.decisions:
            if decision.applied:
                print(f"{decision.before} -> {decision.after}")


trio.run(main)
