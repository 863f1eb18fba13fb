"""`Engine`: the commands of one kind of cluster, and how to read their replies.

An engine runs nothing itself. It returns commands, and it reads the replies to them; all its
functions are pure. The cluster runs the commands, so polls, the budget of calls, tokens and
batches are the same for every engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias, final, runtime_checkable

import attrs

from ._jobs import JobResult, JobSpec, JobState


@final
@attrs.frozen
class Command:
    """A command to run."""

    arguments: Sequence[str]
    """The program and its arguments."""
    stdin: str = ""
    """Its standard input."""
    environment: Mapping[str, str] = attrs.field(factory=dict)
    """Variables to set in addition to the existing ones."""


@final
@attrs.frozen
class Reply:
    """The output of a command, and how it ended."""

    status: int
    """The exit status."""
    out: str = ""
    """Its standard output."""
    err: str = ""
    """Its standard error."""

    @property
    def said(self) -> str:
        """The output in one line, for people."""
        return " ".join((self.err or self.out).split()) or f"exit status {self.status}"


@final
@attrs.frozen
class Sighting:
    """What a controller says about one job."""

    id: str
    """The number that the controller gave it."""
    token: str
    """The name that we gave it."""
    result: JobResult
    """Its state, and more if it has ended."""
    unknown: str = ""
    """The name of a state that the engine does not know. Such a job counts as running."""


@final
@attrs.frozen
class Taken:
    """A job was taken."""

    id: str
    """The number that the controller gave it."""


@final
@attrs.frozen
class Unclear:
    """The answer was unclear: the job may have been taken or not."""

    reason: str
    """What the controller said instead of an answer."""


@final
@attrs.frozen
class Busy:
    """A limit of the site is reached, so the job must be submitted again later."""

    reason: str
    """What the controller says."""


@final
@attrs.frozen
class Refused:
    """The job will not be taken, now or later."""

    reason: str
    """What the controller says."""


Answer: TypeAlias = Taken | Unclear | Busy | Refused
"""The answer to a submission."""


class Unreadable(Exception):
    """Raised by an engine for a reply without an answer, as when the controller is unreachable."""


class Engine(Protocol):
    """One kind of cluster: commands, and how to read the replies to them. It is pure.

    The cluster submits a *wrapper* of the script under a name, the *token*, by which it knows the
    job.
    """

    @property
    def job_id(self) -> str:
        """The shell text for the number of a job, such as ``"$SLURM_JOB_ID"``."""
        ...

    @property
    def supervises(self) -> bool:
        """Whether the cluster ends jobs that run too long, and processes that jobs leave running.

        If not, the wrapper does that.
        """
        ...

    @property
    def reserved(self) -> frozenset[int]:
        """Exit statuses that have a meaning for the cluster, and are hidden from it."""
        ...

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Return the command that submits a job.

        Args:
          token: the name to give to the job.
          wrapper: the shell script to submit.
          spec: what the job needs.
          output: the path for its output; add ``.out`` and ``.err`` to it.
        """
        ...

    def read_submitted(self, reply: Reply) -> Answer:
        """Return the answer to a submission."""
        ...

    def poll(self) -> Command:
        """Return the command that lists our jobs."""
        ...

    def read_poll(self, reply: Reply) -> Iterable[Sighting]:
        """Return all jobs of the list; jobs of other users do no harm.

        It may be a generator, so that other tasks can run while a long list is read.

        Raises:
          Unreadable: if the reply is not a list.
        """
        ...

    def cancel(self, ids: Sequence[str]) -> Command:
        """Return the command that cancels jobs, up to 1,000 at once."""
        ...

    def account(self, jobs: Sequence[tuple[str, str]]) -> Command | None:
        """Return the command that looks for ended jobs in the accounts; ``None`` if there are none.

        Args:
          jobs: the number and the token of each job.
        """
        ...

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        """Return how jobs ended, for the jobs that are in the accounts.

        Raises:
          Unreadable: if the accounts cannot be read at the moment.
        """
        ...


@final
@attrs.frozen
class TaskArray:
    """An array to be submitted."""

    name: str
    """The name to give to the array."""
    first: int
    """The index of the first task."""
    last: int
    """The index of the last task."""
    at_once: float = math.inf
    """How many tasks may run at a time: `math.inf` for any number, 0 to start none for now."""


@runtime_checkable
class ArrayEngine(Engine, Protocol):
    """An engine that can submit many jobs at once, as tasks of an array.

    An array is submitted under a name. The token of each task is ``NAME.INDEX``, and a `Sighting`
    of a task must have this token. A sighting of a whole array has the name and the number of
    the array.
    """

    @property
    def task_id(self) -> str:
        """The shell text for the number of a task, in the form of the id of a `Sighting`."""
        ...

    @property
    def task_index(self) -> str:
        """The shell text for the index of a task, such as ``"$SLURM_ARRAY_TASK_ID"``."""
        ...

    def submit_array(self, array: TaskArray, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Return the command that submits an array; ``read_submitted`` reads the reply.

        Args:
          array: its name, its tasks, and how many of them may run at a time.
          wrapper: the shell script to submit.
          spec: what each task needs.
          output: the path for its output; add ``.INDEX.out`` and ``.INDEX.err`` to it.
        """
        ...

    def number_of(self, array: str, index: int) -> str:
        """Return the number of a task, from the number of its array and its index."""
        ...

    def array_of(self, number: str) -> str:
        """Return the number of the array of a task; empty for a job that is not in an array."""
        ...

    def throttle(self, arrays: Sequence[str], at_once: float) -> Command:
        """Return the command that sets how many tasks of each array may run at a time.

        Args:
          arrays: the numbers of the arrays.
          at_once: how many: `math.inf` for any number, 0 for none. Running tasks are left alone.
        """
        ...

    def read_throttled(self, reply: Reply) -> None:
        """Check that the throttle was set; arrays that have ended do not matter.

        Raises:
          Unreadable: if it was not set.
        """
        ...

    def limits(self) -> Command:
        """Return the command that asks the site for its limits."""
        ...

    def read_limits(self, reply: Reply) -> float:
        """Return the largest index and number of tasks of an array; `math.inf` for any.

        Raises:
          Unreadable: if the reply does not say.
        """
        ...


def result_of_wait(state: JobState, wait_status: int, reason: str = "") -> JobResult:
    """Return the end of a job from the status that ``wait`` returned for its process."""
    number = wait_status & 127
    if number:
        return JobResult(state=state, signal=number, reason=reason)
    return JobResult(state=state, exit_status=wait_status >> 8 & 255, reason=reason)
