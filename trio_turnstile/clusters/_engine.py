"""What an engine is: the commands of one kind of cluster, and how to read what they print.

An engine does nothing itself. It returns commands, and it reads the replies to them; all of its
functions are pure. The cluster runs the commands, so that the polls, the budget of calls, the
tokens and the batches are the same for every engine.
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
    """What it is given to read."""
    environment: Mapping[str, str] = attrs.field(factory=dict)
    """Variables to set beside those that are set."""


@final
@attrs.frozen
class Reply:
    """What a command has printed, and how it ended."""

    status: int
    """The exit status."""
    out: str = ""
    """What it wrote to its standard output."""
    err: str = ""
    """What it wrote to its standard error."""

    @property
    def said(self) -> str:
        """What it wrote, in one line, for people."""
        return " ".join((self.err or self.out).split()) or f"exit status {self.status}"


@final
@attrs.frozen
class Sighting:
    """What a controller says of one job."""

    id: str
    """The number that the controller gave it."""
    token: str
    """The name that we gave it."""
    result: JobResult
    """Its state, and more if it has ended."""
    unknown: str = ""
    """The word for a state that the engine does not know. Such a job counts as running."""


@final
@attrs.frozen
class Taken:
    """A job was taken."""

    id: str
    """The number that the controller gave it."""


@final
@attrs.frozen
class Unclear:
    """The controller did not answer well, so the job may have been taken or not."""

    reason: str
    """What was said instead."""


@final
@attrs.frozen
class Busy:
    """A limit of the site is reached, so the job is to be submitted again later."""

    reason: str
    """What the controller says."""


@final
@attrs.frozen
class Refused:
    """The job will not be taken, now or later."""

    reason: str
    """What the controller says."""


Answer: TypeAlias = Taken | Unclear | Busy | Refused
"""What became of a submission."""


class Unreadable(Exception):
    """Raised by an engine for a reply that tells nothing, as the controller cannot be reached."""


class Engine(Protocol):
    """One kind of cluster: commands, and how to read the replies to them. All of it is pure.

    The cluster submits a *wrapper* of the script under a name that is a *token*, by which it
    knows the job.
    """

    @property
    def job_id(self) -> str:
        """What stands for the number of a job in its shell, such as ``"$SLURM_JOB_ID"``."""
        ...

    @property
    def supervises(self) -> bool:
        """Whether the cluster ends jobs that run too long, and what jobs leave running.

        Else the wrapper does it.
        """
        ...

    @property
    def reserved(self) -> frozenset[int]:
        """Exit statuses that mean something to the cluster, and are hidden from it."""
        ...

    def submit(self, token: str, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Return the command that submits a job.

        Args:
          token: the name to give to the job.
          wrapper: the shell script to submit.
          spec: what the job needs.
          output: the path for its output, to which ``.out`` and ``.err`` are to be added.
        """
        ...

    def read_submitted(self, reply: Reply) -> Answer:
        """Return what became of a submission."""
        ...

    def poll(self) -> Command:
        """Return the command that lists our jobs."""
        ...

    def read_poll(self, reply: Reply) -> Iterable[Sighting]:
        """Return all jobs of the list; those of others do no harm.

        It may be a generator: then others run while a long list is read.

        Raises:
          Unreadable: if the reply is no list.
        """
        ...

    def cancel(self, ids: Sequence[str]) -> Command:
        """Return the command that cancels jobs, up to 1,000 at once."""
        ...

    def account(self, jobs: Sequence[tuple[str, str]]) -> Command | None:
        """Return the command that looks for ended jobs in the accounts; ``None`` if none are kept.

        Args:
          jobs: the number and the token of each.
        """
        ...

    def read_account(self, reply: Reply) -> Iterable[Sighting]:
        """Return how jobs ended, of those that the accounts have.

        Raises:
          Unreadable: if the accounts cannot be read just now.
        """
        ...


@final
@attrs.frozen
class TaskArray:
    """An array to be submitted."""

    name: str
    """The name to give to it."""
    first: int
    """The index of the first task."""
    last: int
    """The index of the last task."""
    at_once: float = math.inf
    """How many tasks may run at a time: `math.inf` for any number, 0 for none for now."""


@runtime_checkable
class ArrayEngine(Engine, Protocol):
    """An engine that can submit many jobs at once, as the tasks of an array.

    An array is submitted under a name. The token of each task is ``NAME.INDEX``, and so has
    the token of a `Sighting` to be. A sighting of a whole array has the name, and the number of
    the array.
    """

    @property
    def task_id(self) -> str:
        """What stands for the number of a task in its shell, as the id of a `Sighting` has it."""
        ...

    @property
    def task_index(self) -> str:
        """What stands for the index of a task in its shell, such as ``"$SLURM_ARRAY_TASK_ID"``."""
        ...

    def submit_array(self, array: TaskArray, wrapper: str, spec: JobSpec, output: str) -> Command:
        """Return the command that submits an array; ``read_submitted`` reads the reply.

        Args:
          array: its name, its tasks, and how many of them may run at a time.
          wrapper: the shell script to submit.
          spec: what each task needs.
          output: the path for its output, to which ``.INDEX.out`` and ``.INDEX.err`` are to be
            added.
        """
        ...

    def number_of(self, array: str, index: int) -> str:
        """Return the number of a task, from that of its array."""
        ...

    def array_of(self, number: str) -> str:
        """Return the number of the array of a task; nothing for a job that is in no array."""
        ...

    def throttle(self, arrays: Sequence[str], at_once: float) -> Command:
        """Return the command that says how many tasks of each array may run at a time.

        Args:
          arrays: the numbers of the arrays.
          at_once: how many: `math.inf` for any number, 0 for none. Tasks that run are left alone.
        """
        ...

    def read_throttled(self, reply: Reply) -> None:
        """Look whether it was done; it does not matter for arrays that have ended.

        Raises:
          Unreadable: if it was not done.
        """
        ...

    def limits(self) -> Command:
        """Return the command that asks the site for its limits."""
        ...

    def read_limits(self, reply: Reply) -> float:
        """Return the largest index and number of tasks of an array; `math.inf` for any.

        Raises:
          Unreadable: if the reply does not tell.
        """
        ...


def result_of_wait(state: JobState, wait_status: int, reason: str = "") -> JobResult:
    """Return the end of a job from the status that ``wait`` gives of its process."""
    number = wait_status & 127
    if number:
        return JobResult(state=state, signal=number, reason=reason)
    return JobResult(state=state, exit_status=wait_status >> 8 & 255, reason=reason)
