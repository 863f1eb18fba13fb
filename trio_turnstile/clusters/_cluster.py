"""`Cluster` and `Job`: the user's view of a cluster, which `open_cluster` opens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ._arrays import Gatherer
from ._calls import Calls
from ._canceller import Canceller
from ._engine import Engine
from ._jobs import JobRefused, JobResult, JobSpec, JobState, new_token
from ._poller import Poller
from ._submitting import Submission, Submitter
from ._throttling import Throttler
from ._tracking import Tracked, Tracker


@final
@attrs.frozen(kw_only=True)
class ClusterStatistics:
    """What a cluster is doing."""

    jobs: int
    """How many jobs have not ended."""
    running: int
    """How many of them are running."""
    calls: int
    """How many calls of the controller have been made."""
    polls: int
    """How many polls have succeeded."""
    failed_polls: int
    """How many polls have failed."""
    unreachable_since: float | None
    """Since when the controller is unreachable, on trio's clock; ``None`` if it is reachable."""


@final
@attrs.frozen(eq=False, repr=False)
class Job:
    """A job on a cluster; `Cluster.submit` and `Cluster.attach` return it."""

    _cluster: Cluster
    _tracked: Tracked

    def __repr__(self) -> str:
        return f"<trio_turnstile.clusters.Job {self.id or self.token} {self.state.value}>"

    @property
    def token(self) -> str:
        """The name of the job on the cluster."""
        return self._tracked.token

    @property
    def id(self) -> str:
        """The number that the controller gave the job."""
        return self._tracked.id

    @property
    def state(self) -> JobState:
        """The state of the job at the last poll."""
        return self._tracked.state

    @property
    def output(self) -> str:
        """The path of the file with the standard output of the job."""
        return f"{self._cluster.directory}/{self.token}.out"

    @property
    def errors(self) -> str:
        """The path of the file with the standard error of the job."""
        return f"{self._cluster.directory}/{self.token}.err"

    async def wait(self) -> JobResult:
        """Wait for the end of the job, and return how it ended.

        Cancellation:
          The job goes on. `cancel` ends it, and so does closing the cluster.
        """
        await self._tracked.ended.wait()
        assert self._tracked.result is not None
        return self._tracked.result

    def cancel(self) -> None:
        """Cancel the job soon, with one call for all jobs that are cancelled now.

        This has no effect on a job that has ended. Use `wait` to wait for its end.
        """
        self._cluster._cancel(self._tracked)

    @property
    def detached(self) -> bool:
        """Whether the job goes on after the cluster is closed."""
        return self._tracked.detached

    def detach(self) -> None:
        """Let the job go on after the cluster is closed."""
        self._tracked.detached = True


@final
@attrs.frozen(eq=False)
class Parts:
    """The parts that a cluster is made of."""

    calls: Calls
    tracker: Tracker
    poller: Poller
    canceller: Canceller
    submitter: Submitter
    gatherer: Gatherer | None = None
    throttler: Throttler | None = None


@final
@attrs.frozen(eq=False)
class Cluster:
    """Jobs on one cluster; `open_cluster` opens it."""

    engine: Engine
    """The kind of cluster."""
    directory: str
    """The directory where jobs write their output and how they ended."""
    _parts: Parts
    _nursery: trio.Nursery

    def statistics(self) -> ClusterStatistics:
        """Return what the cluster is doing."""
        jobs = self._parts.tracker.jobs.values()
        return ClusterStatistics(
            jobs=len(jobs),
            running=sum(job.state is JobState.RUNNING for job in jobs),
            calls=self._parts.calls.made,
            polls=self._parts.poller.polls,
            failed_polls=self._parts.poller.failed,
            unreachable_since=self._parts.poller.unreachable_since,
        )

    def detach(self) -> None:
        """Let all jobs that have not ended go on after the cluster is closed."""
        for job in self._parts.tracker.jobs.values():
            job.detached = True

    def is_detached(self, token: str) -> bool:
        """Whether the job of that name is detached and has not ended."""
        job = self._parts.tracker.jobs.get(token)
        return job is not None and job.detached

    def token_for(self, spec: JobSpec) -> str:
        """Return a unique name for a new job.

        With arrays, the name decides which array the job belongs to. Submit the job soon, because
        the other jobs of the array wait up to two seconds for it.
        """
        return new_token() if self._parts.gatherer is None else self._parts.gatherer.token_for(spec)

    async def submit(self, spec: JobSpec, *, token: str | None = None) -> Job:
        """Submit a job; with arrays, together with others that are submitted now.

        If the answer of the controller is unclear, the cluster looks for the job four times, a
        second apart, before it submits the job again. While a limit of the site is reached, the
        job waits.

        Args:
          spec: what the job does, and what it needs.
          token: its name, from `token_for`; by default a new one. For a token that may have been
            used before, see `resubmit`.

        Raises:
          JobRefused: if the controller refuses the job.

        Cancellation:
          A call of the controller that is under way is still completed, and then the job is
          cancelled.
        """
        return await self._introduce(spec, token or self.token_for(spec), self._submit)

    async def resubmit(self, spec: JobSpec, token: str) -> Job:
        """Look for a job that may have been submitted before; submit it if it does not exist.

        Args:
          spec: what the job does, and what it needs.
          token: its name.

        Raises:
          JobRefused: if the controller refuses the job.

        Cancellation:
          As for `submit`.
        """
        return await self._introduce(spec, token, self._search_and_submit)

    def attach(self, token: str, number: str) -> Job:
        """Return a job that was submitted before, to wait for its end.

        Args:
          token: its name.
          number: the number that the controller gave it.
        """
        tracked = Tracked(token)
        self._parts.tracker.add(tracked)
        tracked.take(number, trio.current_time())
        self._parts.poller.look()
        return Job(self, tracked)

    async def _submit(self, submission: Submission) -> None:
        if self._parts.gatherer is not None and self._parts.gatherer.takes(submission.job.token):
            await self._parts.gatherer.submit(submission)
        else:
            await self._parts.submitter.submit(submission)

    async def _search_and_submit(self, submission: Submission) -> None:
        if await self._parts.submitter.search([submission]):
            await self._submit(submission)

    @enable_ki_protection
    async def _introduce(
        self, spec: JobSpec, token: str, carry_out: Callable[[Submission], Awaitable[None]]
    ) -> Job:
        await trio.lowlevel.checkpoint_if_cancelled()
        tracked = Tracked(token)
        self._parts.tracker.add(tracked)
        submission = Submission(tracked, spec)
        self._nursery.start_soon(carry_out, submission)
        try:
            await submission.over.wait()
        except trio.Cancelled:
            # The controller may have taken the job, so do not forget it.
            submission.given_up = True
            self._parts.tracker.free()
            self._nursery.start_soon(self._give_up, submission)
            raise
        if submission.refusal is not None:
            del self._parts.tracker.jobs[token]
            raise JobRefused(submission.refusal)
        return Job(self, tracked)

    async def _give_up(self, submission: Submission) -> None:
        await submission.over.wait()
        if submission.refusal is not None:
            del self._parts.tracker.jobs[submission.job.token]
        elif not submission.job.detached:
            self._cancel(submission.job)

    def _cancel(self, job: Tracked) -> None:
        if job.result is None and job.cancelled is None:
            job.cancelled = trio.current_time()
            self._parts.canceller.post([job.id, *job.doubles] if job.id else [])

    async def _close(self) -> None:
        """Cancel the jobs that are not detached, and wait for their ends."""
        jobs = [job for job in self._parts.tracker.jobs.values() if not job.detached]
        for job in jobs:
            self._cancel(job)
        self._parts.poller.look()
        for job in jobs:
            await job.ended.wait()
        await self._parts.canceller.flush()
