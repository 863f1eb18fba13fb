"""`Poller`: one task that asks a controller for all jobs at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._calls import Calls
from ._canceller import Canceller
from ._engine import Engine, Reply, Sighting, Unreadable
from ._script import Left, in_batches, parse_files, read_files
from ._tracking import Interval, Listed, Seen, Tracked, Tracker

_LOG: Final = logging.getLogger("trio_turnstile.clusters")

_FILES_AT_ONCE: Final = 250
"""One command reads the files of this many jobs."""

_AT_ONCE: Final = 100
"""How many jobs to process before other tasks may run."""

_SEARCHING: Final = 1.0
"""Seconds between two polls while a job is looked for."""


@final
@attrs.define(eq=False)
class Poller:
    """Asks a controller for all jobs at once, as often as necessary, while any are watched."""

    _engine: Engine
    _directory: str
    _calls: Calls
    _tracker: Tracker
    _interval: Interval
    _canceller: Canceller
    polls: int = attrs.field(init=False, default=0)
    """How many polls have succeeded."""
    failed: int = attrs.field(init=False, default=0)
    """How many polls have failed."""
    unreachable_since: float | None = attrs.field(init=False, default=None)
    """Since when no poll has succeeded."""
    _wake: trio.Event = attrs.field(init=False, factory=trio.Event)
    _strange: set[str] = attrs.field(init=False, factory=set)

    def look(self) -> None:
        """Poll soon, as there is something new to look for."""
        self._wake.set()

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            while not self._tracker.watching:
                await self._wake.wait()
                self._wake = trio.Event()
            began = trio.current_time()
            try:
                news = await self._poll()
            except Unreadable as error:
                self._fail(str(error), began)
            else:
                self._succeed()
                cost = trio.current_time() - began
                (self._interval.after_news if news else self._interval.after_nothing)(cost)
            await self._pause()

    @enable_ki_protection
    async def _pause(self) -> None:
        """Wait, but no longer than necessary when there is something new."""
        began = trio.current_time()
        seconds = self._interval.seconds
        if self._tracker.searching:
            seconds = min(seconds, max(_SEARCHING, self._interval.soonest))
        with trio.move_on_at(began + seconds):
            await self._wake.wait()
            self._wake = trio.Event()
            self._interval.seconds = self._interval.soonest
            await trio.sleep_until(began + self._interval.soonest)

    def _fail(self, reason: str, began: float) -> None:
        self.failed += 1
        self._interval.after_failure()
        if self.unreachable_since is None:
            self.unreachable_since = began
            _LOG.warning(
                "the controller of %s cannot be reached; jobs keep their states: %s",
                *(self._name, reason),
                extra={"unreachable_since": began},
            )

    def _succeed(self) -> None:
        self.polls += 1
        if self.unreachable_since is not None:
            _LOG.info(
                "the controller of %s can be reached again, after %.0f s",
                *(self._name, trio.current_time() - self.unreachable_since),
                extra={"unreachable_since": None},
            )
            self.unreachable_since = None

    @property
    def _name(self) -> str:
        return f"{type(self._engine).__name__} ({self._directory})"

    async def _poll(self) -> bool:
        """Take a poll; return whether there is news."""
        began = trio.current_time()
        reply = await self._calls.ask(self._engine.poll())
        if reply is None:
            raise Unreadable("it does not answer")
        asked = trio.current_time()
        listed = await self._read(reply)
        seen = Seen()
        for jobs in in_batches(list(self._tracker.jobs.values()), _AT_ONCE):
            self._tracker.see(jobs, listed, asked, seen)
            await trio.lowlevel.checkpoint()
        self._tracker.polled = began
        self._canceller.post(seen.stuck)
        for asked_for in in_batches(seen.ask, _FILES_AT_ONCE):
            await self._ask(asked_for)
        return seen.changed or bool(seen.ask)

    async def _read(self, reply: Reply) -> Listed:
        """Read a list, with pauses in which other tasks may run."""
        listed = Listed()
        sightings = iter(self._engine.read_poll(reply))
        while part := list(islice(sightings, _AT_ONCE)):
            self._tell_strange(part)
            listed.add(part)
            await trio.lowlevel.checkpoint()
        return listed

    async def _ask(self, jobs: Sequence[Tracked]) -> None:
        """Read the files of jobs, and the accounts for jobs without files."""
        left = await self._read_files(jobs)
        missing: list[Tracked] = []
        for part in in_batches(jobs, _AT_ONCE):
            missing += self._tracker.settle(part, left, trio.current_time())
            await trio.lowlevel.checkpoint()
        if missing:
            accounts = await self._read_accounts(missing)
            self._tracker.close(missing, accounts, trio.current_time())

    async def _read_files(self, jobs: Sequence[Tracked]) -> Mapping[str, Left]:
        reply = await self._calls.read(read_files(self._directory, [job.token for job in jobs]))
        if reply is None:
            raise Unreadable(f"the directory {self._directory} does not answer")
        return parse_files(reply)

    async def _read_accounts(self, jobs: Sequence[Tracked]) -> Sequence[Sighting]:
        command = self._engine.account([(job.id, job.token) for job in jobs])
        if command is None:
            await trio.lowlevel.checkpoint()
            return ()
        reply = await self._calls.ask(command)
        if reply is None:
            raise Unreadable("the accounts do not answer")
        return list(self._engine.read_account(reply))

    def _tell_strange(self, sightings: Sequence[Sighting]) -> None:
        for word in {each.unknown for each in sightings} - self._strange - {""}:
            self._strange.add(word)
            _LOG.warning("the state %r of a job is unknown; the job counts as running", word)
