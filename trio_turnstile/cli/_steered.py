"""`SteeredRun`: a run of ``turnstile run`` as those see and end it who are outside."""

from __future__ import annotations

import signal
from typing import final

import attrs
import trio

from trio_turnstile import LiveRun, Report, RunKind, RunStage

from ._columns import Input
from ._command_run import CommandRun, State
from ._inputs import Inputs

_STAGES: dict[State, RunStage] = {
    "": "running",
    "draining": "draining",
    "halting": "draining",
    "cancelling": "cancelling",
}


@final
@attrs.frozen(eq=False)
class SteeredRun:
    """Stands for the `Manager` of a run.

    To end a run of commands takes more than the manager does: what runs is shielded, for
    example. And how many inputs there are is known here.
    """

    _run: CommandRun
    _inputs: Inputs[Input]
    _time: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    """Its deadline is when a run that drains is cancelled."""

    def instead_of(self, run: LiveRun) -> LiveRun:
        """Return what is to be seen in the place of a run of the turnstile."""
        return self if run is self._run.manager else run

    async def keep_deadline(self) -> None:
        """Cancel the run when its time to drain is over."""
        with self._time:
            await trio.sleep_forever()
        self.cancel()

    @property
    def name(self) -> str:
        """Its name."""
        return self._run.manager.name

    @property
    def id(self) -> str:
        """What tells it from all others."""
        return self._run.manager.id

    @property
    def kind(self) -> RunKind:
        """That operations are run."""
        return self._run.manager.kind

    @property
    def started(self) -> float:
        """When it was started, on trio's clock, in seconds."""
        return self._run.manager.started

    @property
    def state(self) -> RunStage:
        """How far it has come."""
        if self._run.manager.state == "ended":
            return "ended"
        return _STAGES[self._run.state]

    @property
    def total(self) -> int | None:
        """How many inputs there are; ``None`` while that is unknown."""
        return self._inputs.total

    def report(self) -> Report:
        """Return the account of the run so far."""
        return self._run.manager.report()

    def drain(self, deadline: float | None = None) -> None:
        """Begin nothing more, and let what runs finish until ``deadline``."""
        if not self._run.state:
            self._run.stop(signal.SIGTERM, "turnstile ctl")
        if deadline is not None:
            self._time.deadline = min(self._time.deadline, deadline)

    def cancel(self) -> None:
        """Cancel what runs, and clean it up."""
        self.drain()
        self._run.cancel()
