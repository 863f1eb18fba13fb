"""What a user must not write: each marked line is an error to mypy and to pyright.

Both report an unneeded ignore as an error here, so it is noticed if one of them comes to
accept a wrong use.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

import trio

from trio_turnstile import (
    Abort,
    Backoff,
    Channels,
    Halt,
    Limiter,
    Retry,
    Scalable,
    Signal,
    Skip,
    Throttle,
    open_turnstile,
    retry,
    run_phases,
)

# ---- rules and limiters ----

Throttle(1)  # type: ignore[call-arg]
Throttle(up=1.5)  # type: ignore[arg-type]
Throttle(hold="30s")  # type: ignore[arg-type]
Throttle(maximum=5)  # type: ignore[call-arg]
Throttle().up = 2  # type: ignore[misc]
Limiter("api")  # type: ignore[call-arg]
Limiter("api", "10")  # type: ignore[arg-type]
Limiter("api", 10, Throttle())  # type: ignore[call-arg]
Limiter("api", 10, throttle=None)  # type: ignore[arg-type]
Limiter("api", 10, max_waiting=1.5)  # type: ignore[arg-type]
Limiter("api", 10, policy=Skip())  # type: ignore[arg-type]


class Better(Limiter):  # type: ignore[misc]
    pass


async def limiters(api: Limiter) -> None:
    api.total_tokens = "5"  # type: ignore[assignment]
    api.total_tokens = None  # type: ignore[assignment]
    api.ceiling = 5  # type: ignore[misc]
    api.name = "other"  # type: ignore[misc]
    api.pause("5m")  # type: ignore[arg-type]
    api.acquire()  # type: ignore[unused-coroutine]
    with api:  # type: ignore[attr-defined]
        pass
    async with api as token:
        print(token.name)  # type: ignore[attr-defined]


# ---- turnstiles ----


async def no_channel() -> None:
    pass


def not_async(signals: object) -> None:
    pass


def no_event() -> None:
    pass


async def turnstiles() -> None:
    with open_turnstile():  # type: ignore[attr-defined]
        pass
    async with open_turnstile(no_event):  # type: ignore[arg-type, call-arg]
        pass
    async with open_turnstile(observers=[no_event]) as turnstile:  # type: ignore[list-item]
        turnstile.watch(no_channel)  # type: ignore[arg-type]
        turnstile.watch(not_async)  # type: ignore[arg-type]
        turnstile.limiters["api"] = Limiter("api", 5)  # type: ignore[index]
        turnstile.down(Signal.DOWN)  # type: ignore[arg-type]
        turnstile.signal("down")  # type: ignore[arg-type]
        turnstile.signal(None, Signal.DOWN)  # type: ignore[arg-type]
        turnstile.limiter("api", 10, hold=5)  # type: ignore[call-arg]


# ---- phases ----


class Sync(Scalable):
    def work(self, channels: Channels) -> None:  # type: ignore[override]
        pass


class Bare(Scalable):
    async def work(self) -> None:  # type: ignore[override]
        pass


async def phases(operation: Scalable) -> None:
    await run_phases([operation])  # type: ignore[call-arg]
    await run_phases(operation, limiter=8)  # type: ignore[arg-type]
    await run_phases([1, 2, 3], limiter=8)  # type: ignore[list-item]
    await run_phases([operation], 8)  # type: ignore[call-arg]
    await run_phases([operation], limiter="8")  # type: ignore[arg-type]
    await run_phases([operation], limiter=trio.Semaphore(8))  # type: ignore[arg-type]
    await run_phases([operation], limiter=8, on_error=[Skip])  # type: ignore[list-item]
    await run_phases([operation], limiter=8, timeouts=60)  # type: ignore[arg-type]
    await run_phases([operation], limiter=8, counting="nobody")  # type: ignore[arg-type]
    run_phases([operation], limiter=8)  # type: ignore[unused-coroutine]


# ---- policies ----

Retry()  # type: ignore[call-arg]
Retry("3")  # type: ignore[arg-type]
Retry(3, OSError)  # type: ignore[call-arg]
Retry(within=60.0)  # type: ignore[call-arg]
Retry(3, within="1m")  # type: ignore[arg-type]
Retry(2.5)  # type: ignore[arg-type]
Retry(3, on="OSError")  # type: ignore[arg-type]
Retry(3, backoff=1.0)  # type: ignore[arg-type]
Backoff("1s")  # type: ignore[arg-type]
Halt("later", fail=3)  # type: ignore[arg-type]
Halt("soon")  # type: ignore[call-arg]
Halt("soon", fail=0.1)  # type: ignore[arg-type]
Abort(OSError)  # type: ignore[call-arg]
Skip(on=print)  # type: ignore[arg-type]


async def fetch(url: str) -> bytes:
    return b""


async def retries() -> None:
    await retry(Retry(3))  # type: ignore[call-arg]
    await retry(3, fetch, "a")  # type: ignore[arg-type]
    await retry(fetch, "a")  # type: ignore[arg-type]
    await retry(Retry(3), fetch)  # type: ignore[arg-type]
    await retry(Retry(3), fetch, 5)  # type: ignore[arg-type]
    await retry(Retry(3), fetch, url="a")  # type: ignore[arg-type, call-arg]
    await retry(Retry(3), fetch("a"))  # type: ignore[arg-type]
    await retry(Retry(3), fetch, "a", limiter=5)  # type: ignore[arg-type]
    retry(Retry(3), fetch, "a")  # type: ignore[unused-coroutine]
    text: str = await retry(Retry(3), fetch, "a")  # type: ignore[arg-type]
    print(text)
