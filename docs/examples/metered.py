"""Ask a language model about each line of a file: python metered.py URL PROMPTS ANSWERS."""

import sys
from pathlib import Path

import httpx2
import trio

from trio_turnstile import (
    Aborted,
    Allowance,
    Budget,
    Consumer,
    JsonLinesWriter,
    Overloaded,
    Processor,
    Producer,
    RateLimiter,
    Retry,
    parse_retry_after,
)

PRICE = 2e-6  # dollars per token


class Model:
    """A model behind an API that limits requests and tokens per minute."""

    def __init__(self, client, requests=500, tokens=90_000, dollars=5.0):
        self.client = client
        self.budget = Budget(
            requests=RateLimiter.per(requests, seconds=60),
            # A slightly smaller burst than the service allows, because its clock differs from ours.
            tokens=RateLimiter.per(tokens, seconds=60, burst=int(tokens * 0.98)),
            dollars=Allowance(dollars, kept_in="spent.json"),
        )
        self.answers = 250.0  # tokens of an answer, as a running mean

    def cost(self, prompt):
        """Estimate what a prompt costs; nobody knows how long the answer will be."""
        tokens = len(prompt) / 4 + self.answers
        return {"requests": 1, "tokens": tokens, "dollars": tokens * PRICE}

    async def ask(self, prompt):
        body = {"messages": [{"role": "user", "content": prompt}]}
        response = await self.client.post("/v1/chat/completions", json=body)
        self.budget.observe_headers(response.headers)
        if response.status_code in (429, 503):
            self.budget.settle(tokens=0, dollars=0)  # a refusal costs only a request
            raise Overloaded(parse_retry_after(response.headers.get("Retry-After")))
        answer = response.raise_for_status().json()
        usage = answer["usage"]
        self.budget.settle(tokens=usage["total_tokens"], dollars=usage["total_tokens"] * PRICE)
        self.answers += (usage["completion_tokens"] - self.answers) / 50
        return {"prompt": prompt, "answer": answer["choices"][0]["message"]["content"]}


async def main(url, prompts, answers, **limits):
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        model = Model(client, **limits)
        with Path(prompts).open() as lines:  # noqa: ASYNC230 (a local file)
            pipeline = (
                Producer(line.strip() for line in lines)
                | Processor(
                    model.ask,
                    limiter=64,
                    rate=model.budget,
                    cost=model.cost,
                    on_error=Retry(5, on=(Overloaded, httpx2.TransportError)),
                )
                | Consumer(JsonLinesWriter(answers))
            )
            return await pipeline.run()


if __name__ == "__main__":
    try:
        report = trio.run(main, *sys.argv[1:])
    except* Aborted as aborted:
        sys.exit(str(aborted.exceptions[0]))
    print(report)
