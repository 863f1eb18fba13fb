"""The records that are read from a statistics database. Times are Unix times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs


@final
@attrs.frozen
class Point:
    """How busy a limiter was during a short time."""

    time: float
    """When that time began."""
    limit: float
    """The lowest limit, in tokens; ``inf`` for no limit."""
    running: float
    """How many tokens were borrowed, on average."""
    waiting: float
    """How many tasks were waiting, on average."""


@final
@attrs.frozen
class DecisionRecord:
    """A change of a limit, or a refusal."""

    time: float
    signal: str | None
    before: float
    after: float
    reason: str
    by: str | None
    note: str | None
    evidence: Mapping[str, object] = attrs.field(hash=False)


@final
@attrs.frozen
class LimiterRecord:
    """The records of a limiter."""

    name: str
    samples: int
    """How many samples there are, according to the minutes."""
    saturated: float
    """The share of samples in which every token was in use, from 0 to 1."""
    running: float
    """How many tokens were borrowed on average."""
    averages: Mapping[int, float | None] = attrs.field(hash=False)
    """The newest averages of running, by the seconds that they are over."""
    points: tuple[Point, ...]
    decisions: tuple[DecisionRecord, ...]
    """The newest decisions."""
    reasons: Mapping[str, int] = attrs.field(hash=False)
    """How many decisions there were, by reason."""


@final
@attrs.frozen
class Progress:
    """The counts of a step at one time."""

    time: float
    completed: int
    in_flight: int
    waiting: int
    queued: int


@final
@attrs.frozen
class StepRecord:
    """The records of a step of a run."""

    name: str
    limiter: str | None
    counts: Mapping[str, int] = attrs.field(hash=False)
    """The newest counts, by their names in `StepReport`."""
    progress: tuple[Progress, ...]


@final
@attrs.frozen
class ErrorRecord:
    """An error of a run."""

    time: float
    step: str
    item: str | None
    identifiers: tuple[str, ...]
    attempt: int
    type: str
    message: str


@final
@attrs.frozen
class RunRecord:
    """The records of a run of phases or of a pipeline."""

    id: str
    name: str
    kind: str
    state: str
    started: float
    ended: float | None
    total: int | None
    steps: tuple[StepRecord, ...]
    errors: tuple[ErrorRecord, ...]
    """The newest errors."""
    error_types: Mapping[str, int] = attrs.field(hash=False)
    """How many errors there were, by type, the most frequent first."""


@final
@attrs.frozen
class SessionRecord:
    """The records of a turnstile from one block of `record_statistics`."""

    id: str
    name: str
    host: str
    pid: int
    command: str
    started: float
    seen: float
    """When it was last stored."""
    ended: float | None
    """When it ended; ``None`` while it goes on, or if the program was killed."""
    dropped_samples: int
    dropped_events: int
    limiters: tuple[LimiterRecord, ...]
    """The busiest limiters: those that were saturated longest come first."""
    limiters_omitted: int
    runs: tuple[RunRecord, ...]
    """The newest runs, oldest first."""
    runs_omitted: int
