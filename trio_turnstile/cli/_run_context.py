"""What the operations of one run of ``turnstile run`` share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, final

import attrs

from trio_turnstile import Phase

from ._columns import Input
from ._cost import Cost
from ._interrupted import Interrupted
from ._joblog import Entry
from ._launcher import Launcher
from ._leftovers import Leftovers
from ._outlet import Outlet
from ._output import Pipe
from ._records import Records
from ._room import Room
from ._slots import Slots
from ._stopping import Stopping
from ._template import Template
from ._term_seq import TermSeq
from ._time_limit import TimeLimit

if TYPE_CHECKING:
    from ._jobs import Jobs


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that an enclosing run has set for inputs."""
    ours = ("TURNSTILE_INPUT_", "TURNSTILE_SLOT")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


@final
@attrs.frozen(kw_only=True)
class RunContext:
    """What the operations of a run share."""

    commands: Mapping[Phase, Template]
    """The commands by phase; a phase without a command does nothing."""
    time_limit: TimeLimit
    """How long a command may take, except for the clean-up."""
    grace: TimeLimit
    """How long a clean-up may take."""
    term_seq: TermSeq
    """The signals that end a command."""
    room: Room
    """Waits until the machine has room for an attempt."""
    launcher: Launcher
    """Starts the commands."""
    leftovers: Leftovers
    """Reads output that comes after the end of an operation."""
    interrupted: Interrupted
    """Waits until the interrupted operations of an earlier run are cleaned up."""
    stopping: Stopping
    """Shields the commands from a run that is stopped."""
    outlet: Outlet
    """Where the output of operations goes."""
    records: Records
    """Where to record operations that have ended."""
    on_cleanup: Callable[[], object]
    """Called when the attempts of an operation are over."""
    on_end: Callable[[bool], object]
    """Called when an operation is over, with whether it completed."""
    jobs: Jobs | None = None
    """The jobs on a cluster, if they do the work."""
    cost: Cost | None = None
    """Checks the costs of operations."""
    slots: Slots | None = None
    """Numbers for the operations, if they need them."""
    environment: Mapping[str, str] = attrs.field(factory=lambda: _inherited(os.environ))
    """The environment of the commands, without the variables of the operation."""

    def finish(self, entry: Entry, place: int, given: Input, streams: Sequence[Pipe]) -> None:
        """Log an operation that has ended, and print its output."""
        self.records.add(entry, given.columns, streams)
        self.outlet.finish(place)
