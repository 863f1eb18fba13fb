"""What a turnstile knows of a run of phases or of a pipeline: `LiveRun`, and its events."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, final

import attrs

from trio_turnstile._errors import ConcurrentError

RunKind: TypeAlias = Literal["phases", "pipeline"]
"""What is run: the operations of `run_phases`, or the steps of a pipeline."""

RunStage: TypeAlias = Literal["running", "draining", "cancelling", "ended"]
"""How far a run has come."""

CallOutcome: TypeAlias = Literal["completed", "failed", "cancelled"]
"""How a call of user code ended: it returned, raised, or was cancelled."""


class RunReport(Protocol):
    """What the reports of all runs have in common: `Report` and `PipelineReport`."""

    @property
    def errors(self) -> tuple[ConcurrentError, ...]:
        """The first ``max_errors`` errors."""
        ...

    @property
    def errors_omitted(self) -> int:
        """Number of errors beyond ``max_errors``."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the run was over."""
        ...


class LiveRun(Protocol):
    """What all live runs have in common: `Manager`, `PipelineRun` and `Results`."""

    @property
    def name(self) -> str:
        """The name of the run; the turnstile may have added a number."""
        ...

    @property
    def id(self) -> str:
        """A random UUID, in hex, that identifies the run."""
        ...

    @property
    def kind(self) -> RunKind:
        """Whether it is a run of phases or of a pipeline."""
        ...

    @property
    def started(self) -> float:
        """When it was started, on trio's clock, in seconds."""
        ...

    @property
    def state(self) -> RunStage:
        """How far it has come."""
        ...

    @property
    def total(self) -> int | None:
        """How many items its source has; ``None`` if the source does not say."""
        ...

    def report(self) -> RunReport:
        """Return a report of the run so far."""
        ...

    def drain(self, deadline: float | None = None) -> None:
        """Receive nothing more, and let what is in hand finish until ``deadline``."""
        ...

    def cancel(self) -> None:
        """End the run now."""
        ...


class DurationObserver(Protocol):
    """Anything that can be told how long calls take; see `Turnstile.observe_durations`."""

    def __call__(self, run: LiveRun, part: str, seconds: float, outcome: CallOutcome, /) -> Any:
        """Take in the duration of one call, quickly and without blocking.

        Args:
          run: the run.
          part: the name of the step, or of the phase.
          seconds: how long the call took.
          outcome: how it ended. Each attempt at an item is a call of its own.
        """


@final
@attrs.frozen
class RunOpened:
    """A run of phases or of a pipeline began under a limiter of the turnstile."""

    time: float
    """When it was listed, on trio's clock, in seconds."""
    run: LiveRun
    """The run."""


@final
@attrs.frozen
class RunClosed:
    """A run of phases or of a pipeline ended."""

    time: float
    """When it ended, on trio's clock, in seconds."""
    run: LiveRun
    """The run."""
    report: RunReport = attrs.field(hash=False)
    """Its report."""


@final
@attrs.frozen
class ErrorNoted:
    """A run recorded an error; there is one event for each, even if its report omits it."""

    time: float
    """When it was recorded, on trio's clock, in seconds."""
    run: LiveRun
    """The run."""
    error: ConcurrentError
    """The error, with its item, its identifiers and its cause."""
