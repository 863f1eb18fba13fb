"""What the user asks of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs

from trio_turnstile import Halt, Limiter, Phase

from ._columns import Columns, Input
from ._control_options import ControlOptions
from ._durations import Duration, Multiple
from ._inputs import Inputs
from ._job_plan import JobPlan
from ._joblog import JobLog
from ._keeping import Keeping
from ._output_options import OutputOptions
from ._pace_options import Pace, PaceOptions
from ._queue import Queue
from ._resume import Resumed
from ._template import Template
from ._term_seq import TermSeq
from ._units import Goal
from ._weights import Weight


@final
@attrs.frozen(kw_only=True)
class Plan:
    """What the user asks of a run."""

    title: str
    """The name of the run, for those who look at several."""
    inputs: Inputs[Input]
    """The inputs to run the commands for."""
    columns: Columns
    """What is known about the columns of the inputs."""
    commands: Mapping[Phase, Template]
    """The commands by phase."""
    shell: str
    """The path of the shell that runs them."""
    limiter: Limiter
    """Bounds how many operations run at a time."""
    weight: Weight | None
    """The weight of operations, if not 1 each."""
    limiter_note: str | None
    """A note for the user about the limiter, if there is one."""
    timeout: Duration | Multiple | None
    """How long each command but the clean-up may take: a time, or a multiple of the median run
    time; ``None`` for no limit."""
    grace: Duration
    """Seconds that a clean-up may take."""
    term_seq: TermSeq
    """The signals that end a command."""
    retries: int
    """How many times to retry an operation that failed."""
    halt: Halt | None
    """The failures after which to stop; ``None`` to ignore failures."""
    goal: Goal | None
    """The operations, failed or not, after which to stop; ``None`` for no such goal."""
    joblog: JobLog | None
    """Where to log operations."""
    jobs: JobPlan | None
    """The plan of the jobs, if jobs on a cluster do the work."""
    queue: Queue | None
    """Lets inputs in, an array at a time, if their jobs are tasks of arrays."""
    keeping: Keeping | None
    """How to keep the run in a ledger, if it has one."""
    statistics: str | None
    """The database to record the run in, if there is one."""
    resumed: Resumed | None
    """The operations that need not be done again, according to the job log."""
    pace: PaceOptions
    """When operations may start."""
    starts: Pace
    """The rate at which they start."""
    output: OutputOptions
    """How to print the outputs of operations."""
    control: ControlOptions
    """How the run can be reached while it goes on."""
    quiet: bool
    """Whether to show only errors, and no progress."""

    @property
    def entrance(self) -> Limiter:
        """The limiter whose token an operation takes first."""
        return self.limiter if self.queue is None else self.queue.limiter

    @property
    def uses_slots(self) -> bool:
        """Whether operations need slots: for a command, or to bound the number of blocks."""
        mentioned = any(command.uses_slot for command in self.commands.values())
        return mentioned or not self.columns.in_commands
