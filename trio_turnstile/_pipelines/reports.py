"""The report of a run of a pipeline, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import attrs

from trio_turnstile._errors import ConcurrentError

from .gathering import Trigger


@final
@attrs.frozen
class StepReport:
    """What became of the items of one step.

    ``received == completed + discarded + failed + diverted + cancelled + skipped + in_flight``
    """

    name: str
    """The name of the step."""
    received: int
    """How many items it was given."""
    completed: int
    """How many it passed on, or consumed."""
    discarded: int
    """How many it dropped with `DISCARD`."""
    failed: int
    """How many failed."""
    diverted: int
    """How many were sent away as dead letters."""
    cancelled: int
    """How many were cancelled."""
    skipped: int
    """How many an earlier run with the same ledger had settled: only items of the source."""
    in_flight: int
    """How many it has in hand: 0 once the run is over."""
    passed_on: int
    """How many items it gave to the next step, or to the results of the pipeline.

    That is as many as the next step received. If an item became a `Many`, each item in it
    counts.
    """
    retried: int
    """How many attempts were made again."""
    cut_off: tuple[Any, ...]
    """The items that were in hand when they were cancelled."""
    batches: Mapping[Trigger, int] = attrs.field(factory=dict, hash=False)
    """How many batches each trigger has ended."""
    limiter: str | None = None
    """The name of the limiter that bounds it; ``None`` if there is none, or one of trio's."""
    window: float | None = None
    """How many items it may have in hand now; ``None`` if it is fused with the step before."""
    queued: int = 0
    """How many of those in flight have not begun: they wait for a worker, or for their batch."""
    waiting: int = 0
    """How many more of those in flight have a worker that waits for a token."""


@final
@attrs.frozen
class PipelineReport:
    """The report of a run of a pipeline, step by step."""

    steps: tuple[StepReport, ...]
    """One for each step, in order."""
    errors: tuple[ConcurrentError, ...]
    """The first ``max_errors`` errors that failed an item."""
    errors_omitted: int
    """Number of errors beyond ``max_errors``: counted, not kept."""
    ended: bool = False
    """Whether the run was over, so that nothing could be in flight any more."""

    def __getitem__(self, name: str) -> StepReport:
        """Return the report of the step of that name.

        Raises:
          KeyError: if there is none.
        """
        for stage in self.steps:
            if stage.name == name:
                return stage
        names = ", ".join(stage.name for stage in self.steps)
        raise KeyError(f"no step is named {name!r}; there are: {names}")
