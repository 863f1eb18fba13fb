"""`SteeredRun`: a run of ``turnstile run`` as it is seen and ended from outside."""

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

    Ending a run of commands takes more than the manager does, because running commands are
    shielded, for example. And only this class knows how many inputs there are.
    """

    _run: CommandRun
    _inputs: Inputs[Input]
    _time: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    """A draining run is cancelled at the deadline of this scope."""

    def instead_of(self, run: LiveRun) -> LiveRun:
        """Return what to show instead of a run of the turnstile: this, or the run itself."""
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
        """An ID that no other run has."""
        return self._run.manager.id

    @property
    def kind(self) -> RunKind:
        """The kind of the run."""
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
        """Return the report of the run so far."""
        return self._run.manager.report()

    def drain(self, deadline: float | None = None) -> None:
        """Start nothing more, and let running operations finish until ``deadline``."""
        if not self._run.state:
            self._run.stop(signal.SIGTERM, "turnstile ctl")
        if deadline is not None:
            self._time.deadline = min(self._time.deadline, deadline)

    def cancel(self) -> None:
        """Cancel running operations, and clean them up."""
        self.drain()
        self._run.cancel()
