"""`Tracker`: keeps what is known about each job, and updates it from polls. Sans-I/O.

A poll is processed in steps, because each step may need another command:

1. `see` takes the list of the controller. Jobs that have ended, or are missing, have their files
   read.
2. `settle` takes the contents of the files. Jobs that are still missing are looked for in the
   accounts.
3. `close` takes the accounts. A job that is missing there too is lost, but only after some seconds.

A poll that fails is not processed at all, so it changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

import attrs
import trio

from ._engine import Sighting
from ._jobs import JobResult, JobState
from ._script import Left

_YOUNG: Final = 2.0
"""For this many seconds, a controller may not yet list a job that it has taken."""

_MISSES: Final = 3
"""How many polls in a row a job has to be missing from."""

_LOOKS: Final = 4
"""How often to look for a job after an unclear answer: a backlog can delay the job."""

_BETWEEN_LOOKS: Final = 1.0
"""Seconds between two of these looks."""

_CANCEL_AGAIN: Final = 15.0
"""Seconds after which a cancelled job that still runs is cancelled again."""

_BACK_OFF: Final = 15.0
"""The longest time between two polls that fail, in seconds."""

_COSTLY: Final = 60.0
"""The longest time between two expensive polls, in seconds."""

_ENDED_BY_THE_CLUSTER: Final = frozenset(set(JobState) - {JobState.COMPLETED, JobState.FAILED})


@final
@attrs.define(eq=False)
class Tracked:
    """What is known about one job."""

    token: str
    id: str = ""
    """Its number at the controller; empty while it is unknown."""
    born: float = 0.0
    """When it was taken or attached."""
    state: JobState = JobState.PENDING
    result: JobResult | None = None
    """How it ended."""
    ended: trio.Event = attrs.field(factory=trio.Event)
    found: trio.Event = attrs.field(factory=trio.Event)
    """Set when a search is over; `id` is then the number, or empty if there is no such job."""
    searched: bool = False
    """Whether it is being looked for, after an unclear answer."""
    looks: int = 0
    looked: float = -math.inf
    missing: int = 0
    missed: float = math.inf
    """Since when it has been missing."""
    ending: JobResult | None = None
    """The end that the controller reports."""
    cancelled: float | None = None
    """When we last cancelled it."""
    detached: bool = False
    """Whether it goes on after the program ends."""
    doubles: tuple[str, ...] = ()
    """The numbers of other jobs with this token."""

    def take(self, number: str, now: float) -> None:
        """Note the number of the job."""
        self.id, self.born = number, now
        self.searched, self.missing, self.missed, self.ending = False, 0, math.inf, None
        self.found.set()

    def look_for(self) -> trio.Event:
        """Begin a search, and return the event that is set at its end."""
        self.searched, self.looks, self.looked = True, 0, -math.inf
        self.found = trio.Event()
        return self.found

    def end(self, result: JobResult) -> None:
        """Note the end of the job."""
        if self.cancelled is not None and result.state in (JobState.FAILED, JobState.LOST):
            result = attrs.evolve(result, state=JobState.CANCELLED)
        self.state, self.result = result.state, result
        self.ended.set()


@final
@attrs.define(eq=False)
class Seen:
    """What to do after a list was read."""

    changed: bool = False
    """Whether the state of a job has changed."""
    ask: list[Tracked] = attrs.field(factory=list)
    """The jobs whose files to read."""
    stuck: list[str] = attrs.field(factory=list)
    """The numbers of jobs to cancel: they never end, or go on although they were cancelled."""


@final
@attrs.define(eq=False)
class Listed:
    """The list of a controller."""

    _jobs: dict[str, list[Sighting]] = attrs.field(init=False, factory=dict)
    _by_number: dict[str, Sighting] = attrs.field(init=False, factory=dict)

    def add(self, sightings: Iterable[Sighting]) -> None:
        """Add a part of the list."""
        for sighting in sightings:
            self._jobs.setdefault(sighting.token, []).append(sighting)
            self._by_number[sighting.id] = sighting

    def of(self, job: Tracked, array: str) -> list[Sighting]:
        """Return the sightings of a job.

        If an array is cancelled before any of its tasks begins, it may be listed on one line.
        """
        whole = self._by_number.get(array)
        own = self._jobs.get(job.token)
        return own or ([] if whole is None else [attrs.evolve(whole, id=job.id)])


@final
@attrs.define(eq=False)
class Tracker:
    """Knows the jobs that have not ended."""

    lost_after: float
    """For how many seconds a job has to be missing before it is lost."""
    array_of: Callable[[str], str]
    """Returns the array of a task, from its number; an empty text for other jobs."""
    added: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when a job is added, and then replaced by a new event."""
    freed: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when a job ends, and then replaced by a new event."""
    jobs: dict[str, Tracked] = attrs.field(init=False, factory=dict)
    """The jobs by token."""
    polled: float = attrs.field(init=False, default=-math.inf)
    """When the last poll that was processed was sent."""

    @property
    def searching(self) -> bool:
        """Whether any job is being looked for."""
        return any(job.searched for job in self.jobs.values())

    @property
    def watching(self) -> bool:
        """Whether there is anything to poll for."""
        return any(job.id or job.searched for job in self.jobs.values())

    def add(self, job: Tracked) -> None:
        """Begin to track a job."""
        if job.token in self.jobs:
            raise ValueError(f"job {job.token!r} is already tracked: attach it only once")
        self.jobs[job.token] = job
        self.added.set()
        self.added = trio.Event()

    def see(self, jobs: Iterable[Tracked], listed: Listed, now: float, seen: Seen) -> None:
        """Process the list of the controller for some jobs."""
        for job in jobs:
            if job.result is not None or not (job.id or job.searched):
                continue  # it is being submitted
            before = job.state
            _see_one(job, listed.of(job, self.array_of(job.id)), now, seen)
            seen.changed = seen.changed or job.state is not before

    def settle(
        self, asked: Iterable[Tracked], left: Mapping[str, Left], now: float
    ) -> list[Tracked]:
        """Process the contents of files; return the jobs to look for in the accounts."""
        return [job for job in asked if self._settle_one(job, left.get(job.token, Left()), now)]

    def _settle_one(self, job: Tracked, left: Left, now: float) -> bool:
        if job.searched:
            self._search(job, left, now)
        elif left.result is not None:
            self._end(job, merged(job.ending, left.result))
        elif job.ending is not None:
            if left.claim and left.claim != job.id:
                job.take(left.claim, now)  # our number was of the double, which ended at once
            else:
                self._end(job, job.ending)
        else:
            return job.missing >= _MISSES
        return False

    def close(self, missing: Iterable[Tracked], accounts: Iterable[Sighting], now: float) -> None:
        """Process the accounts; give up jobs that have been missing for too long."""
        ends = {(each.token, each.id): each.result for each in accounts if each.result.state.ended}
        for job in missing:
            if result := ends.get((job.token, job.id)):
                self._end(job, result)
            elif now - job.missed >= self.lost_after or job.cancelled is not None:
                self._end(job, JobResult(state=JobState.LOST, reason="no trace of it is left"))

    def _search(self, job: Tracked, left: Left, now: float) -> None:
        if left.claim:
            job.take(left.claim, now)
        elif now - job.looked >= _BETWEEN_LOOKS:
            job.looks, job.looked = job.looks + 1, now
            if job.looks >= _LOOKS:
                job.searched = False
                job.found.set()

    def _end(self, job: Tracked, result: JobResult) -> None:
        job.end(result)
        del self.jobs[job.token]
        self.free()

    def free(self) -> None:
        """Report that there may be room for other jobs, or less need for room."""
        self.freed.set()
        self.freed = trio.Event()


def _see_one(job: Tracked, listed: list[Sighting], now: float, seen: Seen) -> None:
    if not listed:
        if not job.searched and now - job.born >= _YOUNG:
            job.missing, job.missed = job.missing + 1, min(job.missed, now)
        seen.ask.append(job)
        return
    ours = [each for each in listed if each.id == job.id] or listed
    live = [each for each in ours if not each.result.state.ended] or ours
    sighting = live[0]
    if sighting.id != job.id:
        job.take(sighting.id, now)
    job.missing, job.missed, job.ending = 0, math.inf, None
    job.doubles = tuple(each.id for each in listed if each.id != job.id)
    if sighting.result.state.ended:
        job.ending = sighting.result
        seen.ask.append(job)
        if sighting.result.state is JobState.STUCK:
            seen.stuck.append(job.id)
        return
    job.state = sighting.result.state
    if job.cancelled is not None and now - job.cancelled >= _CANCEL_AGAIN:
        job.cancelled = now
        seen.stuck.extend([job.id, *job.doubles])


def merged(told: JobResult | None, left: JobResult) -> JobResult:
    """Combine the end that the controller reports with the end in the files of the job.

    The job knows its exit status, and the controller knows why it was ended. If the node failed
    just after the job had completed, the job has still completed.
    """
    if told is None:
        return left
    survived = told.state is JobState.NODE_FAILED and left.state is JobState.COMPLETED
    by_cluster = told.state in _ENDED_BY_THE_CLUSTER and not survived
    state = told.state if by_cluster else left.state
    return attrs.evolve(left, state=state, reason=told.reason)


@final
@attrs.define(eq=False)
class Interval:
    """How long to wait before the next poll.

    It is the shortest time after news, and grows by half after each poll without news. Polls may
    take at most a fifth of the time, including the wait for the budget of calls. After a poll
    that failed, the interval doubles, up to fifteen seconds.
    """

    least: float
    most: float
    seconds: float = attrs.field(init=False)
    """How long to wait if nothing new comes."""
    soonest: float = attrs.field(init=False)
    """How long to wait at least, whatever comes."""
    failures: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.seconds = self.soonest = self.least

    def after_news(self, cost: float) -> None:
        """Note a poll with news, which took ``cost`` seconds."""
        self._after(self.least, cost)

    def after_nothing(self, cost: float) -> None:
        """Note a poll without news, which took ``cost`` seconds."""
        self._after(min(self.seconds * 1.5, self.most), cost)

    def _after(self, seconds: float, cost: float) -> None:
        self.failures = 0
        self.soonest = max(self.least, min(4 * cost, _COSTLY))
        self.seconds = max(seconds, self.soonest)

    def after_failure(self) -> None:
        """Note a poll that failed."""
        self.failures += 1
        pause = max(1.0, self.least) * 2.0 ** min(self.failures - 1, 4)
        self.seconds = self.soonest = min(_BACK_OFF, pause)
