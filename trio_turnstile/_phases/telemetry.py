"""`Telemetry`: the receive ends of the channels on which phases report."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import ConcurrentError

from .scalable import Channels


@final
class Telemetry:
    """The receive ends of the channels: sums of what was sent, and the errors."""

    def __init__(self, record: Callable[[ConcurrentError], object]) -> None:
        self.working: int = 0
        self.completed: int = 0
        self.failed: int = 0
        # Unbounded, so that telemetry never blocks work; drained as fast as it comes.
        working, self._working = trio.open_memory_channel[int](math.inf)
        completed, self._completed = trio.open_memory_channel[int](math.inf)
        failed, self._failed = trio.open_memory_channel[int](math.inf)
        errors, self._errors = trio.open_memory_channel[ConcurrentError](math.inf)
        self._record = record
        self.channels: Channels = Channels(working, completed, failed, errors)

    @enable_ki_protection
    async def run(self) -> None:
        """Take in what is sent, until cancelled."""
        async with trio.open_nursery() as nursery:
            for receive, take_in in self._ends():
                nursery.start_soon(_take_in_all, receive, take_in)

    def close(self) -> None:
        """Take in what is left, and refuse more."""
        for receive, take_in in self._ends():
            with receive:
                try:
                    while True:
                        take_in(receive.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    pass

    def _ends(self) -> list[tuple[trio.MemoryReceiveChannel[Any], Callable[[Any], object]]]:
        return [
            (self._working, self._add_working),
            (self._completed, self._add_completed),
            (self._failed, self._add_failed),
            (self._errors, self._record),
        ]

    def _add_working(self, change: int) -> None:
        self.working += change

    def _add_completed(self, more: int) -> None:
        self.completed += more

    def _add_failed(self, more: int) -> None:
        self.failed += more


@enable_ki_protection
async def _take_in_all(
    receive: trio.MemoryReceiveChannel[Any], take_in: Callable[[Any], object]
) -> None:
    async for value in receive:
        take_in(value)
