"""The cost of keys and amounts: a shared limiter against a plain one, a `Budget` against a rate."""

from __future__ import annotations

from trio_turnstile import Budget, Limiter, RateLimiter, open_turnstile

from ._harness import Contestant, Goal, Ratio, race

TIMES = 20_000
PLENTY = 1e9
"""Tokens per second, so that nobody has to wait."""


async def limited() -> None:
    limiter = Limiter("bench", 10)
    for _ in range(TIMES):
        async with limiter:
            pass


async def weighted() -> None:
    limiter = Limiter("bench", 10)
    for _ in range(TIMES):
        async with limiter.tokens(4):
            pass


async def by_key() -> None:
    async with open_turnstile() as turnstile:
        hosts = turnstile.shared("bench", 10, each=2)
        for _ in range(TIMES):
            async with hosts.of("host"):
                pass


async def one_rate() -> None:
    rate = RateLimiter(PLENTY, 10**9)
    for _ in range(TIMES):
        await rate.acquire(5)


async def two_rates() -> None:
    budget = Budget(requests=RateLimiter(PLENTY, 10**9), tokens=RateLimiter(PLENTY, 10**9))
    for _ in range(TIMES):
        async with budget.reserve(requests=1, tokens=5):
            pass


BENCHMARKS = (
    race(
        "shared-alone",
        "async with, by one task that always finds a token",
        {
            "Limiter": Contestant(limited),
            "Limiter.tokens(4)": Contestant(weighted),
            "SharedLimiter.of(key)": Contestant(by_key),
        },
        (
            Ratio("SharedLimiter.of(key)", "Limiter", Goal(1.3)),
            Ratio("Limiter.tokens(4)", "Limiter"),
        ),
    ),
    race(
        "budget-alone",
        "amounts that are there at once",
        {"RateLimiter": Contestant(one_rate), "Budget of two": Contestant(two_rates)},
        (Ratio("Budget of two", "RateLimiter", Goal(3)),),
    ),
)
