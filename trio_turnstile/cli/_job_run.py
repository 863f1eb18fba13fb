"""`JobRun`: the job of one attempt on a cluster, from submitting it to reading its output."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import trio

from trio_turnstile import Channels
from trio_turnstile.clusters import Job, JobError, JobResult, JobSpec, JobState

from ._jobs import Jobs
from ._output import Pipe, Stream
from ._process import CommandFailed, Exit
from ._stopping import Stopping
from ._threads import in_thread

_CANCEL = 30.0
"""Seconds to wait for the end of a job that was cancelled."""

_LOOK = 1.0
"""Seconds between two looks at the output of a running job."""

_CHUNK = 1 << 20
"""How many bytes of output to read at a time."""


@final
class JobRun:
    """The job of one attempt.

    Args:
      jobs: the jobs of the run.
      stopping: shields the wait for the job when the run is stopped.
      open_streams: opens and returns the streams for the output of the job.
    """

    def __init__(
        self,
        jobs: Jobs,
        stopping: Stopping,
        open_streams: Callable[[], Awaitable[Sequence[Pipe]]],
    ) -> None:
        self._jobs = jobs
        self._stopping = stopping
        self._open_streams = open_streams
        self._job: Job | None = None
        self._read = [0, 0]
        self.result: JobResult | None = None
        """How the job ended."""

    @property
    def goes_on(self) -> bool:
        """Whether the job is left running."""
        return self._job is not None and self._job.detached and self.result is None

    @property
    def host(self) -> str:
        """The number and the node of the job, for the job log."""
        number = "" if self._job is None else self._job.id
        return f"{number}@{'' if self.result is None else self.result.node}"

    @property
    def times(self) -> tuple[float, float] | None:
        """When the job began, in seconds since 1970, and how long it ran, if that is known."""
        if self.result is None or self.result.started is None or self.result.ended is None:
            return None
        return self.result.started, self.result.ended - self.result.started

    @property
    def exit(self) -> Exit | None:
        """How the command of the job ended, if that is known."""
        return None if self.result is None else _exit_of(self.result)

    async def carry_out(
        self, make_spec: Callable[[], JobSpec], channels: Channels, facts: Mapping[str, Any]
    ) -> None:
        """Submit the job, wait for its end, and read its output.

        Args:
          make_spec: makes the spec to submit.
          channels: where to remember the job.
          facts: the facts about the job from an earlier run, if that has submitted it.

        Raises:
          CommandFailed: if the job did not complete.
          JobRefused: if the cluster refuses the job.
          OSError: if the output cannot be read or kept.
          ValueError: if the job of the input needs something impossible.

        Cancellation:
          Leaves the job running if the user wants that. Otherwise cancels it, and waits for
          its end.
        """
        with self._stopping.shield():
            self._job = await self._jobs.submit(make_spec, channels, facts)
        try:
            with self._stopping.shield_job():
                self.result = await self._wait(self._job)
        except trio.Cancelled:
            await self._end_early(self._job)
            raise
        with self._stopping.shield():
            await self._bring_output(self._job)
            await channels.remember(node=self.result.node)
        self._check(self._job.id)

    def forget(self) -> None:
        """Let the files of the job be removed, if it has ended."""
        if self._job is not None and self.result is not None:
            self._jobs.forget(self._job.token)

    def _check(self, number: str) -> None:
        assert self.result is not None
        try:
            self.result.check(number)
        except JobError as error:
            raise CommandFailed(_exit_of(self.result), str(error)) from None

    async def _wait(self, job: Job) -> JobResult:
        if not self._jobs.follow:
            return await job.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, job)
            result = await job.wait()
            nursery.cancel_scope.cancel()
        return result

    async def _follow(self, job: Job) -> None:
        while True:
            await trio.sleep(_LOOK)
            with suppress(OSError):  # the last look will raise it again
                await self._bring_output(job)

    async def _end_early(self, job: Job) -> None:
        if self._stopping.leaving:
            job.detach()
            return
        job.cancel()
        with trio.move_on_after(_CANCEL, shield=True):
            self.result = await job.wait()
            with suppress(OSError):
                await self._bring_output(job)
        if self.result is None:
            job.detach()
            self._jobs.note(f"job {job.id} could not be cancelled, and may go on")

    async def _bring_output(self, job: Job) -> None:
        streams = await self._open_streams()
        for index, path in enumerate((job.output, job.errors)):
            stream = streams[index]
            assert isinstance(stream, Stream)
            while True:
                start, data = await in_thread(_read_from, path, self._read[index])
                if not data:
                    break
                self._read[index] = start + len(data)
                stream.add(data)


def _read_from(path: str, start: int) -> tuple[int, bytes]:
    try:
        with Path(path).open("rb") as file:
            # A job that is queued again starts its output from the beginning.
            start = start if os.fstat(file.fileno()).st_size >= start else 0
            file.seek(start)
            return start, file.read(_CHUNK)
    except FileNotFoundError:  # the job has not begun
        return start, b""


def _exit_of(result: JobResult) -> Exit:
    known = result.exit_status is not None or result.signal is not None
    by_itself = result.state in (JobState.COMPLETED, JobState.FAILED)
    return Exit(
        -result.signal if result.signal is not None else result.exit_status or 0,
        timed_out=result.state is JobState.TIMED_OUT,
        cancelled=not by_itself or (result.state is JobState.FAILED and not known),
    )
