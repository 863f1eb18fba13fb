"""Calls to a metered service whose cost nobody knows beforehand: ``python -m benchmarks.budgets``.

It compares several ways to pace the calls: by a fixed limit, by an adaptive one, by requests, by
tokens estimated once, and by a `Budget` that is settled and heeds the service's headers.

With ``--http``, it uses a real HTTP server on loopback, in real time that passes 30 times as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import attrs
import trio
from trio.testing import MockClock

from trio_turnstile import Budget, Limiter, Overloaded, RateLimiter, open_turnstile
from trio_turnstile.limits import AIMDLimit, KneeLimit, LimitPolicy

from ._metered import Call, Mean, Recent, Service, make_calls
from ._metered_http import SPEED, over_http

WORKERS = 64
TRIES = 50
LIMIT = 90_000


@attrs.frozen
class Scene:
    """How the calls or the service change during a run."""

    name: str
    growth: float = 1.0
    halves: bool = False


SCENES = (
    Scene("steady"),
    Scene("prompts x 3", growth=3.0),
    Scene("halved midway", halves=True),
)


@attrs.frozen
class Outcome:
    """The result of all calls."""

    used: float
    """The share of the available tokens that was used."""
    refused: float
    """The share of the requests that was refused."""
    failed: int
    """How many calls were given up."""


Ask: TypeAlias = Callable[[Call], Awaitable[tuple[float, dict[str, str]]]]
"""Makes a request; returns the seconds until the next try, 0 after a success, and the headers."""

Pace: TypeAlias = Callable[[Call, Ask], Awaitable[bool]]
"""Makes the request for a call as soon as it may; returns whether the request succeeded."""


# ---- pacing on trio ----


def limited(limiter: Limiter, before: Callable[[], Awaitable[object]] | None = None) -> Pace:
    """Bound how many calls run; with ``before``, await that before each call as well."""

    async def pace(call: Call, ask: Ask) -> bool:
        if before is not None:
            await before()
        try:
            async with limiter:
                wait, _ = await ask(call)
                if wait:
                    raise Overloaded(wait)
        except Overloaded as refusal:
            await trio.sleep(refusal.retry_after or 0)
            return False
        return True

    return pace


def budgeted(budget: Budget, *, counts_prompts: bool) -> Pace:
    """Reserve an estimate, settle it with the actual cost, and heed the headers."""
    responses, costs = Mean(270.0), Recent()

    async def pace(call: Call, ask: Ask) -> bool:
        estimate = call.prompt + responses.value if counts_prompts else costs.high
        async with budget.reserve(tokens=estimate) as spending:
            wait, headers = await ask(call)
            if wait:
                spending.cancel()
            else:
                spending.settle(tokens=call.cost)
                responses.add(call.response)
                costs.add(call.cost)
        budget.observe_headers(headers)
        return not wait

    return pace


Open: TypeAlias = Callable[[], AbstractAsyncContextManager[Pace]]


@asynccontextmanager
async def bounded(number: int, policy: LimitPolicy | None = None) -> AsyncIterator[Pace]:
    """Bound how many calls run, by a fixed limit or by one that a policy moves."""
    async with open_turnstile() as turnstile:
        limiter = turnstile.limiter("calls", number, policy=policy)
        yield limited(limiter)


def by_requests(a_minute: float, minute: float = 60.0) -> AbstractAsyncContextManager[Pace]:
    """Pace by the number of requests, regardless of their cost."""
    rate = RateLimiter(a_minute / minute)
    return nullcontext(limited(Limiter("calls", WORKERS), rate.acquire))


def by_tokens(*, counts_prompts: bool, minute: float = 60.0) -> AbstractAsyncContextManager[Pace]:
    """Pace by a `Budget`."""
    # A slightly smaller burst than the service allows, because its clock differs from ours.
    budget = Budget(tokens=RateLimiter.per(LIMIT, seconds=minute, burst=LIMIT * 98 // 100))
    return nullcontext(budgeted(budget, counts_prompts=counts_prompts))


ON_TRIO: dict[str, Open] = {
    "fixed limit of 4": lambda: bounded(4),
    "fixed limit of 8": lambda: bounded(8),
    "fixed limit of 16": lambda: bounded(16),
    "AIMDLimit": lambda: bounded(WORKERS, AIMDLimit(10, minimum=1, maximum=WORKERS)),
    "KneeLimit": lambda: bounded(WORKERS, KneeLimit(10)),
    "60 requests a minute": lambda: by_requests(60),
    "50 requests a minute": lambda: by_requests(50),
    "40 requests a minute": lambda: by_requests(40),
    "Budget, prompts counted": lambda: by_tokens(counts_prompts=True),
    "Budget, nothing known": lambda: by_tokens(counts_prompts=False),
}


OVER_HTTP: dict[str, Open] = {
    "fixed limit of 8": lambda: bounded(8),
    "KneeLimit": lambda: bounded(WORKERS, KneeLimit(10)),
    "50 requests a minute": lambda: by_requests(50, 60 / SPEED),
    "Budget, prompts counted": lambda: by_tokens(counts_prompts=True, minute=60 / SPEED),
    "Budget, nothing known": lambda: by_tokens(counts_prompts=False, minute=60 / SPEED),
}


async def simulated_ask(service: Service, call: Call) -> tuple[float, dict[str, str]]:
    """Make a request, with 50 ms for the network."""
    await trio.sleep(0.05)
    wait = service.admit(call, trio.current_time())
    if wait:
        return wait, service.headers(wait)
    await trio.sleep(call.seconds)
    service.finish(call, trio.current_time())
    return 0.0, service.headers()


async def on_trio(make: Open, calls: Sequence[Call], ask: Ask) -> int:
    """Make all calls, and return how many were given up."""
    failed, left = 0, iter(calls)

    async def worker(pace: Pace) -> None:
        nonlocal failed
        for call in left:
            for _ in range(TRIES):
                if await pace(call, ask):
                    break
            else:
                failed += 1

    async with make() as pace, trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(worker, pace)
    return failed


# ---- the others, on asyncio, in virtual time too ----


class _Jumping(selectors.SelectSelector):
    """Jumps to the next deadline instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += max(timeout or 0.0, 1e-6)  # a wait may be shorter than the clock's resolution
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


Acquire: TypeAlias = Callable[[float], Awaitable[object]]


def by_aiolimiter() -> Acquire:
    """Return a bucket of aiolimiter."""
    from aiolimiter import AsyncLimiter

    return AsyncLimiter(LIMIT, 60).acquire


def by_pyrate_limiter() -> Acquire:
    """Return a token bucket of pyrate-limiter, on the clock of the running loop."""
    from pyrate_limiter import AbstractClock, Rate, SingleBucketFactory, StateBucket, TokenBucket
    from pyrate_limiter import Limiter as OtherLimiter

    time = asyncio.get_running_loop().time

    class LoopClock(AbstractClock):
        def now(self) -> int:
            return int(time() * 1000)

    bucket = StateBucket([Rate(LIMIT, 60_000)], TokenBucket(), clock=LoopClock())
    limiter = OtherLimiter(SingleBucketFactory(bucket, schedule_leak=False))

    async def acquire(amount: float) -> object:
        return await limiter.try_acquire_async("calls", round(amount))

    return acquire


ON_ASYNCIO: dict[str, tuple[str, Callable[[], Acquire]]] = {
    "aiolimiter, prompts counted": ("aiolimiter", by_aiolimiter),
    "pyrate-limiter, prompts counted": ("pyrate_limiter", by_pyrate_limiter),
}
"""They take an estimate, cannot give anything back, and read no headers."""


async def on_asyncio(make: Callable[[], Acquire], calls: Sequence[Call], service: Service) -> int:
    """Make all calls, and return how many were given up."""
    now = asyncio.get_running_loop().time
    acquire, left, responses, failed = make(), iter(calls), Mean(270.0), 0

    async def attempt(call: Call) -> bool:
        await acquire(call.prompt + responses.value)
        await asyncio.sleep(0.05)
        wait = service.admit(call, now())
        await asyncio.sleep(wait or call.seconds)
        if not wait:
            service.finish(call, now())
            responses.add(call.response)
        return not wait

    async def worker() -> None:
        nonlocal failed
        for call in left:
            for _ in range(TRIES):
                if await attempt(call):
                    break
            else:
                failed += 1

    await asyncio.gather(*[worker() for _ in range(WORKERS)])
    return failed


# ---- the table ----


def play(run: Callable[[Sequence[Call], Service], int], scene: Scene, number: int) -> Outcome:
    """Return the result of the given number of calls in a scene."""
    calls = make_calls(number, growth=scene.growth)
    ideal = sum(call.cost for call in calls) * 60 / LIMIT
    service = Service(LIMIT, halves_at=ideal / 2) if scene.halves else Service(LIMIT)
    failed = run(calls, service)
    requests = service.refused + service.served
    return Outcome(service.spent / service.given, service.refused / requests, failed)


def simulated(make: Open) -> Callable[[Sequence[Call], Service], int]:
    """Run on trio in virtual time."""

    def run(calls: Sequence[Call], service: Service) -> int:
        ask = partial(simulated_ask, service)
        return trio.run(on_trio, make, calls, ask, clock=MockClock(autojump_threshold=0))

    return run


def served(make: Open) -> Callable[[Sequence[Call], Service], int]:
    """Run on trio in real time, with a server."""

    def run(calls: Sequence[Call], service: Service) -> int:
        return trio.run(over_http, service, lambda client: on_trio(make, calls, client.ask))

    return run


def virtual(make: Callable[[], Acquire]) -> Callable[[Sequence[Call], Service], int]:
    """Run on asyncio in virtual time."""

    def run(calls: Sequence[Call], service: Service) -> int:
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            return runner.run(on_asyncio(make, calls, service))

    return run


def table(number: int) -> Iterable[str]:
    """Give a line for each way to pace."""
    yield f"{number} calls of a service with {LIMIT} tokens a minute, in virtual time:"
    yield from _head()
    for name, make in ON_TRIO.items():
        yield _row(name, simulated(make), number)
    for name, (needs, make_other) in ON_ASYNCIO.items():
        if importlib.util.find_spec(needs) is None:
            yield f"{name:33} not installed"
        else:
            yield _row(name, virtual(make_other), number)


def table_over_http(number: int) -> Iterable[str]:
    """Give a line for each way to pace, against a server."""
    yield f"{number} calls of an HTTP server with {LIMIT} tokens in {60 / SPEED:g} s:"
    yield from _head()
    for name, make in OVER_HTTP.items():
        yield _row(name, served(make), number)


def _head() -> Iterable[str]:
    yield "% of the budget used / % of the requests refused (calls given up)"
    yield ""
    yield f"{'':33}" + "".join(f"{scene.name:>22}" for scene in SCENES)


def _row(name: str, run: Callable[[Sequence[Call], Service], int], number: int) -> str:
    return f"{name:33}" + "".join(f"{_cell(play(run, scene, number)):>22}" for scene in SCENES)


def _cell(outcome: Outcome) -> str:
    failed = f" ({outcome.failed})" if outcome.failed else ""
    return f"{100 * outcome.used:.1f} / {100 * outcome.refused:.2f}{failed}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budgets", description=__doc__)
    parser.add_argument("--calls", type=int, default=3000, metavar="N", help="default: 3000")
    parser.add_argument("--http", action="store_true", help="a server on loopback, in real time")
    options = parser.parse_args()
    lines = table_over_http if options.http else table
    for line in lines(options.calls):
        print(line, flush=True)


if __name__ == "__main__":
    main()
