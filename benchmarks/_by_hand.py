"""What people write by hand to have a function called for many items, a few at a time.

None of these counts, catches errors, retries, or can be anything but what it was
started as; so they are cheap.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

T = TypeVar("T")


async def bare_pool(
    function: Callable[[T], Awaitable[object]], items: Iterable[T], at_once: int
) -> None:
    """A few tasks share an iterator: the least that can be done."""
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
    """A token, then a task, for each; by a semaphore, the fastest thing that has tokens."""
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
    """The same, but while there are tokens it does not let others run."""
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
    """By a `trio.CapacityLimiter`, which can be retuned, as ours can."""
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
    """Workers of three stages, who pass items on by memory channels without a buffer.

    Those of the first share an iterator, which is faster than a channel.
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
