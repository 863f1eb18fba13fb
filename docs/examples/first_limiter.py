"""Make twenty calls to a service that must get at most three at once."""

import trio

from trio_turnstile import Limiter


class Service:
    """Stands in for a remote service, and records how many calls it gets at once."""

    def __init__(self):
        self.calling = 0
        self.most = 0

    async def answer(self, question):
        self.calling += 1
        self.most = max(self.most, self.calling)
        await trio.sleep(0.05)
        self.calling -= 1
        return question.upper()


async def ask(question, service, api, answers):
    async with api:
        answers.append(await service.answer(question))


async def main():
    service = Service()
    api = Limiter("api", 3)
    answers = []
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, f"question {number}", service, api, answers)
    print(f"{len(answers)} answers, at most {service.most} calls at a time")


trio.run(main)
