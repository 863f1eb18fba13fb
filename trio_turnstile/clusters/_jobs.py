"""The spec of a job, its state, and how it ended."""

from __future__ import annotations

import enum
import secrets
import signal
from collections.abc import Iterable
from typing import ClassVar, Final, final

import attrs

from trio_turnstile._util import seconds, whole


def new_token() -> str:
    """Return a unique name for a new job."""
    return f"tt-{secrets.token_hex(8)}"


@final
class JobState(enum.Enum):
    """How far a job has come, or how it ended."""

    PENDING = "pending"
    """It waits in the queue, is held, or was queued again by the cluster."""
    RUNNING = "running"
    """It is running, or in a state that the engine does not know."""
    COMPLETED = "completed"
    """It ended with exit status 0."""
    FAILED = "failed"
    """It ended with another exit status, or by a signal."""
    TIMED_OUT = "timed out"
    """The cluster ended it at its time limit."""
    OUT_OF_MEMORY = "out of memory"
    """The cluster ended it because it used too much memory."""
    NODE_FAILED = "node failed"
    """Its node went down, or it had to make room for other work, and was not queued again."""
    STUCK = "stuck"
    """It would stay in the queue for ever: in an error state, or after a failed dependency."""
    CANCELLED = "cancelled"
    """Somebody cancelled it."""
    LOST = "lost"
    """The cluster does not know it, and it left no file that says how it ended."""

    @property
    def ended(self) -> bool:
        """Whether a job in this state has ended."""
        return self not in (JobState.PENDING, JobState.RUNNING)


def _as_tuple(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)  # type checkers cannot infer the argument of ``tuple`` itself


@final
@attrs.frozen
class JobSpec:
    """What a job does, and what it needs.

    Args:
      script: the program: a text that begins with ``#!``, or else is run by ``/bin/sh``.
      name: a name for people.
      cpus: how many CPUs it needs; ``None`` for the default of the cluster.
      memory: how many MiB it needs in all; ``None`` for the default of the cluster.
      seconds: how long it may run; ``None`` for as long as the cluster allows. Some clusters
        round it up.
      options: further arguments of the submit command, such as ``"--partition=long"``.
    """

    script: str
    name: str = ""
    cpus: int | None = attrs.field(default=None, kw_only=True, validator=whole(1, optional=True))
    memory: int | None = attrs.field(default=None, kw_only=True, validator=whole(1, optional=True))
    seconds: float | None = attrs.field(
        default=None, kw_only=True, validator=seconds(positive=True, optional=True)
    )
    options: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_as_tuple)


@final
@attrs.frozen(kw_only=True)
class JobResult:
    """How a job ended."""

    state: JobState
    """The state in which it ended."""
    exit_status: int | None = None
    """Its exit status; ``None`` if it did not exit, or if that is not known."""
    signal: int | None = None
    """The number of the signal that ended it; ``None`` if none did."""
    reason: str = ""
    """The reason that the cluster gives."""
    started: float | None = None
    """When it began, as Unix time in seconds; ``None`` if that is not known."""
    ended: float | None = None
    """When it ended, as Unix time in seconds; ``None`` if that is not known."""
    node: str = ""
    """The node where it ran."""

    def __str__(self) -> str:
        how = self.state.value
        if self.signal is not None:
            how += f" by {_signal_name(self.signal)}"
        elif self.exit_status:
            how += f" with exit status {self.exit_status}"
        where = f" on {self.node}" if self.node else ""
        return f"{how}{where}" + (f" ({self.reason})" if self.reason else "")

    def check(self, job: str) -> None:
        """Raise the error for this end, unless the job completed.

        Args:
          job: the name of the job in the error.

        Raises:
          JobError: the subclass for the state.
        """
        if self.state is not JobState.COMPLETED:
            raise _ERRORS[self.state](job, self)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class JobError(Exception):
    """A job has ended without completing. There is a subclass for each way to end.

    Args:
      job: the name of the job.
      result: how it ended.
    """

    retryable: ClassVar[bool] = False
    """Whether the cluster and not the job is the cause, so that another try may help."""

    def __init__(self, job: str, result: JobResult) -> None:
        super().__init__(job, result)
        self.job = job
        self.result = result

    def __str__(self) -> str:
        return f"job {self.job}: {self.result}"


@final
class JobFailed(JobError):
    """It ended with an exit status above 0, or by a signal."""


@final
class JobTimedOut(JobError):
    """The cluster ended it at its time limit."""


@final
class JobOutOfMemory(JobError):
    """The cluster ended it because it used too much memory."""


@final
class JobNodeFailed(JobError):
    """Its node went down, or it had to make room for other work."""

    retryable = True


@final
class JobStuck(JobError):
    """It would have stayed in the queue for ever, so it was taken out of the queue."""


@final
class JobCancelled(JobError):
    """Somebody cancelled it."""


@final
class JobLost(JobError):
    """The cluster does not know it, and it left no file that says how it ended.

    It may have done all or part of its work.
    """

    retryable = True


@final
class JobRefused(Exception):
    """The cluster refuses to take a job.

    Args:
      reason: the reason that it gives.
    """

    retryable: ClassVar[bool] = False
    """Whether another try may help. It will not: the same job will be refused again."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the cluster refuses the job: {self.reason}"


_ERRORS: Final[dict[JobState, type[JobError]]] = {
    JobState.FAILED: JobFailed,
    JobState.TIMED_OUT: JobTimedOut,
    JobState.OUT_OF_MEMORY: JobOutOfMemory,
    JobState.NODE_FAILED: JobNodeFailed,
    JobState.STUCK: JobStuck,
    JobState.CANCELLED: JobCancelled,
    JobState.LOST: JobLost,
}
