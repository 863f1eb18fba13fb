"""`open_dead_letters`: a channel for dead letters, and a pipeline that reads all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import Aborted, ConcurrentError
from trio_turnstile._util import check_seconds, check_whole, open_plain_nursery

from .pipeline import Producer
from .processors import Consumer


@asynccontextmanager
@enable_ki_protection
async def open_dead_letters(
    consumer: Consumer[ConcurrentError], *, buffer: int = 100, grace: float = 30.0
) -> AsyncIterator[trio.MemorySendChannel[ConcurrentError]]:
    """Open a channel for `DeadLetter`, and run ``consumer`` on all letters that are sent there.

    Run the pipeline inside the block. However the block ends, the letters that were sent by
    then go through the consumer before anything is cancelled::

        async with open_dead_letters(Consumer(store)) as letters:
            await (Producer(urls) | Consumer(fetch, on_error=DeadLetter(letters))).run()

    Args:
      consumer: what to do with the letters; processors may be joined before it.
      buffer: how many letters may wait for the consumer.
      grace: seconds that the letters may take to go through after the block was cancelled,
        was interrupted or raised.

    Raises:
      Aborted: if the consumer was stopped by errors. A letter that can no longer be sent
        stops the pipeline that it comes from.
      TypeError, ValueError: for arguments of a wrong type or value.

    Cancellation:
      The consumer is cancelled ``grace`` seconds after the block was, and its report is lost.
    """
    check_whole("buffer", buffer, 0)
    check_seconds("grace", grace)
    send, receive = trio.open_memory_channel[ConcurrentError](buffer)
    shield, done = trio.CancelScope(shield=True), trio.Event()

    async def read() -> None:
        try:
            # A reader that fails leaves the channel closed, so that no sender waits for ever.
            with shield, receive:
                await (Producer(receive) | consumer).run()
        finally:
            done.set()

    with _alone():
        async with open_plain_nursery() as nursery:
            nursery.start_soon(read)
            try:
                with send:
                    yield send
                await done.wait()
            finally:
                shield.deadline = trio.current_time() + grace


@contextmanager
def _alone() -> Iterator[None]:
    """If only an `Aborted` comes out of a nursery, raise it without the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        first = group.exceptions[0]
        if (
            isinstance(group, Aborted)
            or len(group.exceptions) > 1
            or not isinstance(first, Aborted)
        ):
            raise
        raise first from None
