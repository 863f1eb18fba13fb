"""What is read from a statistics database. Times are Unix times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs


@final
@attrs.frozen
class Point:
    """How busy a limiter was during a short time."""

    time: float
    """When it began."""
    limit: float
    """The limit, in tokens: the lowest; ``inf`` for none."""
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
    """What was recorded of a limiter."""

    name: str
    samples: int
    """How many samples there are, by the minutes."""
    saturated: float
    """In what share of them every token was in use, from 0 to 1."""
    running: float
    """How many tokens were borrowed on average."""
    averages: Mapping[int, float | None] = attrs.field(hash=False)
    """The newest averages of running, by their seconds."""
    points: tuple[Point, ...]
    decisions: tuple[DecisionRecord, ...]
    """The newest."""
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
    """What was recorded of a step of a run."""

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
    """What was recorded of a run of phases or of a pipeline."""

    id: str
    name: str
    kind: str
    state: str
    started: float
    ended: float | None
    total: int | None
    steps: tuple[StepRecord, ...]
    errors: tuple[ErrorRecord, ...]
    """The newest."""
    error_types: Mapping[str, int] = attrs.field(hash=False)
    """How many errors there were, by type, the most frequent first."""


@final
@attrs.frozen
class SessionRecord:
    """What was recorded of a turnstile from one call of `record_statistics` to its end."""

    id: str
    name: str
    host: str
    pid: int
    command: str
    started: float
    seen: float
    """When it was stored last."""
    ended: float | None
    """When it ended; ``None`` while it goes on, and if the program was killed."""
    dropped_samples: int
    dropped_events: int
    limiters: tuple[LimiterRecord, ...]
    """The busiest first: those that were saturated for the longest."""
    limiters_omitted: int
    runs: tuple[RunRecord, ...]
    """The newest, oldest first."""
    runs_omitted: int
