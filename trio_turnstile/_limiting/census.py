"""`Census`: samples the limiters of a turnstile in rounds, for its history and observers."""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from .events import Snapshot
from .history import History
from .limiter import Limiter
from .line import Line
from .observers import Observers
from .sack import Sack
from .track import Track

PORTION = 250
"""How many samples observers are told of before other tasks get a turn."""


@final
class Census:
    """The limiters that are sampled, each with its track in the history."""

    def __init__(self, sample_every: float) -> None:
        self.history: History = History(sample_every, trio.current_time())
        self._tracks: dict[str, tuple[Line, Sack, Track]] = {}

    def add(self, name: str, limiter: Limiter) -> None:
        """Sample a limiter from now on."""
        self._tracks[name] = limiter._line, limiter._sack, self.history.begin(name)

    def discard(self, name: str) -> None:
        """Stop sampling a limiter, which was closed."""
        del self._tracks[name]
        self.history.end(name)

    @enable_ki_protection
    async def run(self, observers: Observers) -> None:
        """Take a sample of each limiter at each tick, and tell observers, until cancelled."""
        tick = 0
        while True:
            tick += 1
            await trio.sleep_until(self.history.time(tick))
            # It is later than asked if the process was stopped, or a task computed for long.
            # The ticks that were missed have no sample: nothing is made up for them.
            tick = max(tick, self.history.tick(trio.current_time()))
            self._sample(tick)
            if observers:
                await self._tell(tick, observers)

    def _sample(self, tick: int) -> None:
        # This reads limiters as `Limiter.load` does, but makes no call for an idle one: with
        # 10,000 limiters, each object that is touched and each function that is called is a
        # good part of a round.
        before = tick - 1
        for line, sack, track in self._tracks.values():
            running, waiting = line.inner.borrowed_tokens + line._beyond, sack.waiting
            if (
                track.running == running
                and track.waiting == waiting
                and track.limit == line.limit
                and track.tick == before
            ):
                track.tick = tick
            else:
                track.add(tick, line.limit, running, waiting)
        self.history.forget(tick)

    async def _tell(self, tick: int, observers: Observers) -> None:
        # In portions, because with 10,000 limiters it takes longer than a task should compute. And
        # by name, because so many pairs would make the garbage collector look at every object.
        time = self.history.time(tick)
        for number, name in enumerate(list(self._tracks), 1):
            entry = self._tracks.get(name)
            # The limiter may be closed by now, and another one may have taken its name.
            if entry is not None and (track := entry[2]).tick == tick:
                observers(Snapshot(name, time, track.limit, track.running, track.waiting))
            if number % PORTION == 0:
                await trio.lowlevel.checkpoint()
