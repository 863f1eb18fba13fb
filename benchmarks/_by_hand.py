"""What people write by hand to call a function for many items, a few at a time.

None of these functions counts, catches errors or retries, and nothing about them can be changed
while they run. So they are cheap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

T = TypeVar("T")


async def bare_pool(
    function: Callable[[T], Awaitable[object]], items: Iterable[T], at_once: int
) -> None:
    """Start a few tasks that share an iterator: the least possible code."""
    shared = iter(items)

    async def worker() -> None:
        for item in shared:
            await function(item)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(worker)


async def semaphore_then_start(
    function: Callable[[T], Awaitable[object]], items: Iterable[T], at_once: int
) -> None:
    """For each item, take a token of a semaphore (no limiter is faster), then start a task."""
    tokens = trio.Semaphore(at_once)

    async def task(item: T) -> None:
        try:
            await function(item)
        finally:
            tokens.release()

    async with trio.open_nursery() as nursery:
        for item in items:
            await tokens.acquire()
            nursery.start_soon(task, item)


async def nowait_then_start(
    function: Callable[[T], Awaitable[object]], items: Iterable[T], at_once: int
) -> None:
    """Do the same, but let no other task run while there are free tokens."""
    tokens = trio.Semaphore(at_once)

    async def task(item: T) -> None:
        try:
            await function(item)
        finally:
            tokens.release()

    async with trio.open_nursery() as nursery:
        for item in items:
            try:
                tokens.acquire_nowait()
            except trio.WouldBlock:
                await tokens.acquire()
            nursery.start_soon(task, item)


async def limiter_then_start(
    function: Callable[[T], Awaitable[object]], items: Iterable[T], at_once: int
) -> None:
    """Do the same with a `trio.CapacityLimiter`, whose limit can be changed, like ours."""
    tokens = trio.CapacityLimiter(at_once)

    async def task(item: T, borrower: object) -> None:
        try:
            await function(item)
        finally:
            tokens.release_on_behalf_of(borrower)

    async with trio.open_nursery() as nursery:
        for item in items:
            borrower = object()
            await tokens.acquire_on_behalf_of(borrower)
            nursery.start_soon(task, item, borrower)


async def chain_of_channels(
    function: Callable[[T], Awaitable[T]], items: Iterable[T], at_once: int
) -> None:
    """Run workers for three stages, which pass items on through memory channels without a buffer.

    The workers of the first stage share an iterator, which is faster than a channel.
    """
    shared = iter(items)
    to_second, second = trio.open_memory_channel[T](0)
    to_third, third = trio.open_memory_channel[T](0)

    async def begin(output: trio.MemorySendChannel[T]) -> None:
        with output:
            for item in shared:
                await output.send(await function(item))

    async def pass_on(
        source: trio.MemoryReceiveChannel[T], output: trio.MemorySendChannel[T]
    ) -> None:
        with output:
            async for item in source:
                await output.send(await function(item))

    async def consume(source: trio.MemoryReceiveChannel[T]) -> None:
        async for item in source:
            await function(item)

    async with trio.open_nursery() as nursery:
        with to_second, to_third:
            for _ in range(at_once):
                nursery.start_soon(begin, to_second.clone())
                nursery.start_soon(pass_on, second, to_third.clone())
                nursery.start_soon(consume, third)
