"""`open_cluster`: jobs on one cluster, with one task that polls for all of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile import RateLimiter
from trio_turnstile._util import check_seconds, open_background_nursery, open_plain_nursery

from ._calls import Calls, Run, run_command, unlimited
from ._canceller import Canceller
from ._engine import Engine
from ._jobs import JobRefused, JobResult, JobSpec, JobState
from ._poller import Poller
from ._script import make_directory
from ._submitting import Submission, Submitter
from ._tracking import Interval, Tracked, Tracker


def new_token() -> str:
    """Return a name for a new job, which nobody else has."""
    return f"tt-{secrets.token_hex(8)}"


@final
@attrs.frozen(kw_only=True)
class ClusterStatistics:
    """What a cluster is doing."""

    jobs: int
    """How many jobs have not ended."""
    running: int
    """How many of them run."""
    calls: int
    """How many calls of the controller have been made."""
    polls: int
    """How many polls have succeeded."""
    failed_polls: int
    """How many polls have failed."""
    unreachable_since: float | None
    """Since when the controller cannot be reached, on trio's clock; ``None`` if it can."""


@final
@attrs.frozen(eq=False, repr=False)
class Job:
    """A job on a cluster; `Cluster.submit` and `Cluster.attach` give it."""

    _cluster: Cluster
    _tracked: Tracked

    def __repr__(self) -> str:
        return f"<trio_turnstile.clusters.Job {self.id or self.token} {self.state.value}>"

    @property
    def token(self) -> str:
        """The name that it has on the cluster."""
        return self._tracked.token

    @property
    def id(self) -> str:
        """The number that the controller gave it."""
        return self._tracked.id

    @property
    def state(self) -> JobState:
        """How far it is, as of the last poll."""
        return self._tracked.state

    @property
    def output(self) -> str:
        """The path of what it writes to its standard output."""
        return f"{self._cluster.directory}/{self.token}.out"

    @property
    def errors(self) -> str:
        """The path of what it writes to its standard error."""
        return f"{self._cluster.directory}/{self.token}.err"

    async def wait(self) -> JobResult:
        """Wait for the end of the job, and return how it ended.

        Cancellation:
          The job goes on. `cancel` ends it, and so does leaving the cluster.
        """
        await self._tracked.ended.wait()
        assert self._tracked.result is not None
        return self._tracked.result

    def cancel(self) -> None:
        """Have the job cancelled soon, in one call with all others that are cancelled now.

        It does nothing to a job that has ended. `wait` tells of the end.
        """
        self._cluster._cancel(self._tracked)

    @property
    def detached(self) -> bool:
        """Whether it goes on when the cluster is left."""
        return self._tracked.detached

    def detach(self) -> None:
        """Let the job go on when the cluster is left."""
        self._tracked.detached = True


@final
@attrs.frozen(eq=False)
class Cluster:
    """Jobs on one cluster; `open_cluster` gives it."""

    engine: Engine
    """What kind of cluster it is."""
    directory: str
    """Where jobs leave their output, and word of how they ended."""
    _calls: Calls
    _tracker: Tracker
    _poller: Poller
    _canceller: Canceller
    _submitter: Submitter
    _nursery: trio.Nursery

    def statistics(self) -> ClusterStatistics:
        """Return what the cluster is doing."""
        jobs = self._tracker.jobs.values()
        return ClusterStatistics(
            jobs=len(jobs),
            running=sum(job.state is JobState.RUNNING for job in jobs),
            calls=self._calls.made,
            polls=self._poller.polls,
            failed_polls=self._poller.failed,
            unreachable_since=self._poller.unreachable_since,
        )

    def detach(self) -> None:
        """Let all jobs that have not ended go on when the cluster is left."""
        for job in self._tracker.jobs.values():
            job.detached = True

    async def submit(self, spec: JobSpec, *, token: str | None = None) -> Job:
        """Submit a job.

        If the answer of the controller is not clear, the job is looked for four times, a second
        apart, before it is submitted again. While a limit of the site is reached, it waits.

        Args:
          spec: what the job is to do.
          token: its name, from `new_token`; by default a new one. For a token that may have been
            used before, see `resubmit`.

        Raises:
          JobRefused: if the controller refuses it.

        Cancellation:
          The submission is carried through all the same, and then the job is cancelled.
        """
        return await self._introduce(token or new_token(), partial(self._submitter.submit, spec))

    async def resubmit(self, spec: JobSpec, token: str) -> Job:
        """Look for a job that may have been submitted before; submit it if it is not there.

        Args:
          spec: what the job is to do.
          token: its name.

        Raises:
          JobRefused: if the controller refuses it.

        Cancellation:
          As for `submit`.
        """
        return await self._introduce(token, partial(self._submitter.search_and_submit, spec))

    def attach(self, token: str, number: str) -> Job:
        """Return a job that was submitted before, to wait for its end.

        Args:
          token: its name.
          number: what the controller called it.
        """
        tracked = Tracked(token)
        self._tracker.add(tracked)
        tracked.take(number, trio.current_time())
        self._poller.look()
        return Job(self, tracked)

    @enable_ki_protection
    async def _introduce(
        self, token: str, carry_out: Callable[[Submission], Awaitable[None]]
    ) -> Job:
        await trio.lowlevel.checkpoint_if_cancelled()
        tracked = Tracked(token)
        self._tracker.add(tracked)
        submission = Submission(tracked)
        self._nursery.start_soon(carry_out, submission)
        try:
            await submission.over.wait()
        except trio.Cancelled:
            # What was asked of the controller may have been done, and is not forgotten.
            submission.given_up.set()
            self._nursery.start_soon(self._give_up, submission)
            raise
        if submission.refusal is not None:
            del self._tracker.jobs[token]
            raise JobRefused(submission.refusal)
        return Job(self, tracked)

    async def _give_up(self, submission: Submission) -> None:
        await submission.over.wait()
        if submission.refusal is not None:
            del self._tracker.jobs[submission.job.token]
        elif not submission.job.detached:
            self._cancel(submission.job)

    def _cancel(self, job: Tracked) -> None:
        if job.result is None and job.cancelled is None:
            job.cancelled = trio.current_time()
            self._canceller.post([job.id, *job.doubles] if job.id else [])

    async def _close(self) -> None:
        """Cancel the jobs that are not to go on, and wait for their ends."""
        jobs = [job for job in self._tracker.jobs.values() if not job.detached]
        for job in jobs:
            self._cancel(job)
        self._poller.look()
        for job in jobs:
            await job.ended.wait()
        await self._canceller.flush()


@final
@attrs.frozen(kw_only=True)
class _Settings:
    """What a cluster is opened with."""

    engine: Engine
    directory: str
    calls: Calls
    interval: Interval
    lost_after: float
    grace: float


async def _serve(
    settings: _Settings, leaving: trio.Event, task_status: trio.TaskStatus[Cluster]
) -> None:
    """Run the tasks of a cluster until it is left, and then for as long as it takes to close it."""
    engine, directory, calls = settings.engine, settings.directory, settings.calls
    tracker, canceller = Tracker(settings.lost_after), Canceller(engine, calls)
    poller = Poller(engine, directory, calls, tracker, settings.interval, canceller)
    submitter = Submitter(engine, directory, calls, poller)
    with trio.CancelScope(shield=True) as scope:
        async with open_background_nursery() as background:
            background.start_soon(poller.run)
            background.start_soon(canceller.run)
            async with open_plain_nursery() as submissions:
                cluster = Cluster(
                    engine, directory, calls, tracker, poller, canceller, submitter, submissions
                )
                task_status.started(cluster)
                await leaving.wait()
                scope.deadline = trio.current_time() + settings.grace
            await cluster._close()


@asynccontextmanager
@enable_ki_protection
async def open_cluster(
    engine: Engine,
    *,
    directory: str | os.PathLike[str] = "turnstile-jobs",
    poll: tuple[float, float] = (0.5, 30.0),
    calls: RateLimiter | None = None,
    lost_after: float = 20.0,
    grace: float = 30.0,
    run: Run = run_command,
) -> AsyncIterator[Cluster]:
    """Open a cluster, to submit jobs to it. One task polls for all of them.

    When it is left, jobs that have not ended are cancelled, unless they are detached. Leaving
    waits for their ends, and for submissions under way.

    Args:
      engine: what kind of cluster it is.
      directory: where jobs leave their output, and word of how they ended. The nodes of the
        cluster have to see it under the same path. It is made if it is not there.
      poll: the shortest and the longest time between two polls, in seconds. The time is short
        after news, and grows while there is none.
      calls: how often the controller may be called: to submit, to poll and to cancel. By
        default as often as need be.
      lost_after: for how many seconds the controller must not know a job, and no other trace of
        it be found, before it is lost. It should be longer than file systems and accounts lag.
      grace: how many seconds leaving may take. Then what cannot be cancelled is left alone.
      run: runs the commands. By default they run on this machine.

    Raises:
      OSError: if the directory cannot be made.
    """
    least, most = poll
    check_seconds("poll", least, positive=True)
    check_seconds("poll", most, positive=True)
    check_seconds("lost_after", lost_after)
    check_seconds("grace", grace)
    if least > most:
        raise ValueError(f"poll must be the shortest and the longest time, not {poll!r}")
    settings = _Settings(
        engine=engine,
        directory=_absolute(directory),
        calls=Calls(run, calls or unlimited()),
        interval=Interval(least, most),
        lost_after=lost_after,
        grace=grace,
    )
    reply = await run(make_directory(settings.directory))
    if reply.status:
        raise OSError(f"the directory for jobs cannot be made: {reply.said}")
    leaving = trio.Event()
    async with open_plain_nursery() as nursery:
        try:
            yield await nursery.start(_serve, settings, leaving)
        finally:
            leaving.set()


def _absolute(directory: str | os.PathLike[str]) -> str:
    return str(Path(directory).absolute())
