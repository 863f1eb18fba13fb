"""Operations for tests of `run_phases`, and the counts of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from trio_turnstile import Channels, Manager, Report, Scalable
from trio_turnstile.testing import assert_conserved


def account(run: Report | Manager) -> tuple[int, int, int, int]:
    """Assert that the books balance; return received, completed, failed and cancelled."""
    assert_conserved(run)
    return run.received, run.completed, run.failed, run.cancelled


class Sleeps(Scalable):
    """Works for some seconds, and then raises the error that it was given, if any."""

    def __init__(self, seconds: float = 1, error: BaseException | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.cleaned = 0

    async def work(self, channels: Channels) -> None:
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error


class Works(Sleeps):
    """Works like `Sleeps`, and counts how often it is cleaned up."""

    async def cleanup(self, channels: Channels) -> None:
        await trio.lowlevel.checkpoint()
        self.cleaned += 1


class EachPhase(Scalable):
    """Does the same in each phase, except for the name of the phase."""

    async def phase(self, name: str) -> None:
        """Run the phase of that name."""

    async def prepare(self, channels: Channels) -> None:
        await self.phase("prepare")

    async def work(self, channels: Channels) -> None:
        await self.phase("work")

    async def monitor(self, channels: Channels) -> None:
        await self.phase("monitor")

    async def cleanup(self, channels: Channels) -> None:
        await self.phase("cleanup")


class Logged(EachPhase):
    """Writes its phases into a log, each with its time; each phase takes a second."""

    def __init__(self, number: int, log: list[tuple[int, str, float]]) -> None:
        self.number = number
        self.log = log

    @property
    def identifiers(self) -> tuple[str, ...]:
        return (f"op {self.number}",)

    async def phase(self, name: str) -> None:
        self.log.append((self.number, name, trio.current_time()))
        await trio.sleep(1)


async def arriving(count: int, *, every: float = 0) -> AsyncIterator[Scalable]:
    """Yield operations, one every ``every`` seconds."""
    for _ in range(count):
        await trio.sleep(every)
        yield Works()
