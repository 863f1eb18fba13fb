"""The leanest code on trio that does the same work as the shapes of `benchmarks.shapes`.

It takes the items through, as many at once as asked for, and does nothing else: no counts, no
error handling, no clean-up, and no bound on waiting items where a shape does not need one.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import trio

from ._by_hand import bare_pool

Function: TypeAlias = Callable[[Any], Awaitable[Any]]

BUFFER = 64


async def chain(items: Iterable[Any], *stages: tuple[Function, int]) -> None:
    """Run workers that pass items on through channels; the first stage shares an iterator."""
    shared = iter(items)

    async def begin(function: Function, output: trio.MemorySendChannel[Any]) -> None:
        with output:
            for item in shared:
                await output.send(await function(item))

    async def middle(
        function: Function,
        source: trio.MemoryReceiveChannel[Any],
        output: trio.MemorySendChannel[Any],
    ) -> None:
        with output:
            async for item in source:
                await output.send(await function(item))

    async def end(function: Function, source: trio.MemoryReceiveChannel[Any]) -> None:
        async for item in source:
            await function(item)

    async with trio.open_nursery() as nursery:
        (function, workers), *others = stages
        send, receive = trio.open_memory_channel[Any](BUFFER)
        with send:
            for _ in range(workers):
                nursery.start_soon(begin, function, send.clone())
        for function, workers in others[:-1]:
            source, (send, receive) = receive, trio.open_memory_channel[Any](BUFFER)
            with send:
                for _ in range(workers):
                    nursery.start_soon(middle, function, source, send.clone())
        function, workers = others[-1]
        for _ in range(workers):
            nursery.start_soon(end, function, receive)


async def in_order(function: Function, then: Function, items: Iterable[Any], at_once: int) -> None:
    """Keep results that are early in a dictionary until their turn comes."""
    numbered = enumerate(items)
    early: dict[int, Any] = {}
    turn = 0

    async def worker() -> None:
        nonlocal turn
        for number, item in numbered:
            early[number] = await function(item)
            while turn in early:
                result = early.pop(turn)
                turn += 1
                await then(result)

    await _workers(worker, at_once)


async def by_key(
    function: Function, key: Callable[[Any], Any], items: Iterable[Any], at_once: int
) -> None:
    """Leave an item whose key is at work to the worker that has this key."""
    shared = iter(items)
    lanes: dict[Any, deque[Any]] = {}

    async def worker() -> None:
        for item in shared:
            name = key(item)
            if name in lanes:
                lanes[name].append(item)
                continue
            lane = lanes[name] = deque([item])
            while lane:
                await function(lane.popleft())
            del lanes[name]

    await _workers(worker, at_once)


async def in_batches(function: Function, items: Iterable[Any], size: int, at_once: int) -> None:
    """Call the function for slices of the iterator."""
    shared = iter(items)
    batches = iter(lambda: list(itertools.islice(shared, size)), [])
    await bare_pool(function, batches, at_once)


async def from_channel(
    function: Function, source: trio.MemoryReceiveChannel[Any], at_once: int
) -> None:
    """Run workers that all receive from one channel."""

    async def worker() -> None:
        async for item in source:
            await function(item)

    await _workers(worker, at_once)


async def from_async(function: Function, sources: list[AsyncIterable[Any]], at_once: int) -> None:
    """Run a task for each source, which sends its items to a common channel."""
    send, receive = trio.open_memory_channel[Any](BUFFER)

    async def read(source: AsyncIterable[Any], output: trio.MemorySendChannel[Any]) -> None:
        with output:
            async for item in source:
                await output.send(item)

    async with trio.open_nursery() as nursery:
        with send:
            for source in sources:
                nursery.start_soon(read, source, send.clone())
        await from_channel(function, receive, at_once)


async def with_limiter(function: Function, items: Iterable[Any], stages: int, tokens: int) -> None:
    """Run stages that share one limiter, each with as many workers as there are tokens."""
    limiter = trio.CapacityLimiter(tokens)

    async def limited(item: Any) -> Any:
        async with limiter:
            return await function(item)

    await chain(items, *[(limited, tokens)] * stages)


async def at_a_rate(
    function: Function, items: Iterable[Any], per_second: float, burst: int, at_once: int
) -> None:
    """Bound the rate by a token bucket, kept as the time at which it would be full."""
    full_at = trio.current_time()

    async def limited(item: Any) -> None:
        nonlocal full_at
        now = trio.current_time()
        full_at = max(full_at, now) + 1 / per_second
        if full_at - now > burst / per_second:
            await trio.sleep(full_at - now - burst / per_second)
        await function(item)

    await bare_pool(limited, items, at_once)


async def results(function: Function, items: Iterable[Any], at_once: int) -> None:
    """Send the results through a channel to a loop that iterates over them."""
    shared = iter(items)
    send, receive = trio.open_memory_channel[Any](BUFFER)

    async def worker(output: trio.MemorySendChannel[Any]) -> None:
        with output:
            for item in shared:
                await output.send(await function(item))

    async with trio.open_nursery() as nursery:
        with send:
            for _ in range(at_once):
                nursery.start_soon(worker, send.clone())
        async for _ in receive:
            pass


async def _workers(worker: Callable[[], Awaitable[object]], at_once: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(worker)
