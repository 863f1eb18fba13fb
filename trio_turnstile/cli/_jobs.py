"""`Jobs`: the jobs of a run on a cluster. It imports the engines, so it is imported late."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, final

import trio

from trio_turnstile import Channels, LedgerError, Limiter, RateLimiter
from trio_turnstile.clusters import (
    Arrays,
    Cluster,
    Engine,
    Job,
    JobRefused,
    JobSpec,
    JobState,
    LocalEngine,
    SgeEngine,
    SlurmEngine,
    open_cluster,
)

from ._columns import Input
from ._job_plan import EngineName, JobPlan, other_engine
from ._printable import printable
from ._template import quote
from ._threads import in_thread

_ENGINES: Mapping[EngineName, Callable[[], Engine]] = {
    "slurm": SlurmEngine,
    "sge": SgeEngine,
    "local": LocalEngine,
}

_POLL, _POLL_HERE = (0.5, 30.0), (0.1, 1.0)
"""The shortest and the longest time between two polls, in seconds."""

_GRACE = 10.0
"""Seconds that closing the cluster may take: by then, operations have waited for their jobs."""

_SWEEP = 30.0
"""Seconds between sweeps; the files of a job are removed at the second sweep after its end."""

_COUNT = 0.5
"""Seconds between two counts of the running jobs."""

_LONGEST_NAME = 100


@final
class Jobs:
    """The jobs of a run.

    Args:
      plan: what the user asks for.
      cluster: the cluster that runs the jobs.
      shell: the path of the shell that runs the commands.
      follow: whether to read the output of jobs while they run.
      note: shows a line to the user.
      settled: returns when everything noted in the ledger is on disk.
    """

    def __init__(
        self,
        plan: JobPlan,
        cluster: Cluster,
        *,
        shell: str,
        follow: bool,
        note: Callable[[str], object],
        settled: Callable[[], Awaitable[object]],
    ) -> None:
        self.follow = follow
        self.note = note
        self._plan = plan
        self._cluster = cluster
        self._shell = shell
        self._settled = settled
        self._going: dict[str, Job | None] = {}
        """Jobs by token; ``None`` while a job is being submitted."""
        self._ended: set[str] = set()
        self._older: set[str] = set()

    def make_spec(
        self, given: Input, number: int, command: str, variables: Mapping[str, str]
    ) -> JobSpec:
        """Return the job for an input.

        Args:
          given: the input.
          number: the number of the operation.
          command: the command that the job runs.
          variables: variables for the environment of the command.

        Raises:
          ValueError: if the job of the input needs something impossible.
        """
        plan = self._plan
        options = [each.fill(given, number, quoted=str) for each in plan.submit_args]
        exports = [f"export {name}={quote(text)}" for name, text in variables.items()]
        return JobSpec(
            "\n".join([f"#!{self._shell}", *exports, command, ""]),
            printable(given.text)[:_LONGEST_NAME],
            cpus=None if plan.cpus is None else plan.cpus.of(given, number),
            memory=None if plan.memory is None else plan.memory.of(given, number),
            seconds=None if plan.seconds is None else plan.seconds.of(given, number),
            options=options,
        )

    async def submit(
        self, make_spec: Callable[[], JobSpec], channels: Channels, facts: Mapping[str, Any]
    ) -> Job:
        """Submit a job, unless an earlier run has done so.

        Args:
          make_spec: makes the spec to submit.
          channels: where to remember the job.
          facts: the facts about the job from an earlier run.

        Raises:
          JobRefused: if the cluster refuses the job.
          ValueError: if the spec is impossible, or an earlier run used another engine.
        """
        engine = self._plan.engine
        if facts.get("engine", engine) != engine:
            raise ValueError(other_engine(facts))
        if "job" in facts:
            job = self._cluster.attach(facts["token"], facts["job"])
            self._going[job.token] = job
            return job
        spec = make_spec()
        token = facts["token"] if facts else self._cluster.token_for(spec)
        self._going[token] = None
        if not facts:
            await channels.remember(token=token, engine=engine)
        submit = self._cluster.resubmit if facts else self._cluster.submit
        try:
            self._going[token] = job = await submit(spec, token=token)
        except JobRefused:
            self.forget(token)
            raise
        await channels.remember(job=job.id)
        return job

    async def count_running(self, limiter: Limiter) -> None:
        """Make running jobs hold the tokens of a limiter, so that it shows them; runs for ever.

        If more jobs run than it has tokens, because the limit has fallen, it shows only as many
        as it has tokens.
        """
        held: set[str] = set()
        try:
            while True:
                running = {token for token, job in self._going.items() if _runs(job)}
                for token in held - running:
                    limiter.release_on_behalf_of(token)
                held &= running
                with suppress(trio.WouldBlock):
                    for token in running - held:
                        limiter.acquire_on_behalf_of_nowait(token)
                        held.add(token)
                await trio.sleep(_COUNT)
        finally:
            for token in held:
                limiter.release_on_behalf_of(token)

    def describe(self) -> str:
        """Return what the cluster is doing, for the progress."""
        now = self._cluster.statistics()
        told = f"jobs {now.jobs} ({now.running} running)"
        if now.unreachable_since is None:
            return told
        since = time.time() - (trio.current_time() - now.unreachable_since)
        clock = time.strftime("%H:%M:%S", time.localtime(since))
        return f"controller unreachable since {clock}, {told}"

    def forget(self, token: str) -> None:
        """Let the files of a job be removed, some time after its end is noted."""
        self._going.pop(token, None)
        self._ended.add(token)

    async def sweep(self) -> None:
        """Remove the files of ended jobs from time to time, for ever."""
        while True:
            await trio.sleep(_SWEEP)
            await self._remove(self._older)
            self._older, self._ended = self._ended, set()

    async def sweep_all(self) -> None:
        """Remove the files of all jobs that have ended."""
        await self._remove(self._older | self._ended)

    async def _remove(self, tokens: set[str]) -> None:
        with suppress(LedgerError):  # then the next run needs the files
            await self._settled()
            going = {_array_of(token) for token in self._going}
            await in_thread(_remove_files, self._cluster.directory, tokens, going)


@asynccontextmanager
async def open_jobs(
    plan: JobPlan,
    *,
    running: Limiter,
    shell: str,
    follow: bool,
    note: Callable[[str], object],
    settled: Callable[[], Awaitable[object]],
) -> AsyncIterator[Jobs]:
    """Open the cluster of a run. Closing it cancels running jobs, except for detached ones.

    It takes the arguments of `Jobs`, and ``running``, which bounds how many tasks of arrays run.
    """
    calls = None if plan.calls is None else RateLimiter(plan.calls.per_second)
    poll = _POLL_HERE if plan.engine == "local" else _POLL
    opening = open_cluster(
        _ENGINES[plan.engine](),
        directory=plan.directory,
        poll=poll,
        calls=calls,
        grace=_GRACE,
        arrays=None if plan.arrays is None else Arrays(plan.arrays, running=running),
    )
    async with AsyncExitStack() as stack:
        stack.enter_context(_warnings_noted(note))
        cluster = await stack.enter_async_context(opening)
        jobs = Jobs(plan, cluster, shell=shell, follow=follow, note=note, settled=settled)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(jobs.sweep)
            if plan.arrays is not None:
                nursery.start_soon(jobs.count_running, running)
            yield jobs
            nursery.cancel_scope.cancel()
        await jobs.sweep_all()


class _Notes(logging.Handler):
    """Shows the log records of the cluster to the user."""

    def __init__(self, note: Callable[[str], object]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(printable(record.getMessage()))


@contextmanager
def _warnings_noted(note: Callable[[str], object]) -> Iterator[None]:
    logger, handler = logging.getLogger("trio_turnstile.clusters"), _Notes(note)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def _runs(job: Job | None) -> bool:
    return job is not None and job.state is JobState.RUNNING


def _array_of(token: str) -> str:
    return token.partition(".")[0]


def _remove_files(directory: str, tokens: set[str], going: set[str]) -> None:
    """Remove the files of jobs, and the shared file of an array once none of its tasks goes on."""
    if not tokens:
        return
    ended = {_array_of(token) for token in tokens} - going
    with suppress(OSError), os.scandir(directory) as entries:
        for path in [Path(each) for each in entries if _is_left(each.name, tokens, ended)]:
            with suppress(OSError):
                path.unlink()


def _is_left(name: str, tokens: set[str], ended: set[str]) -> bool:
    token, _, kind = name.removesuffix(".tmp").rpartition(".")
    return _array_of(name) in ended if kind == "tasks" else token in tokens
