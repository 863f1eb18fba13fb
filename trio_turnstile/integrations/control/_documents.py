"""What goes over HTTP: the documents that are told, and the orders that are taken.

They are structs of msgspec, which checks, encodes and describes them. In the documents ``null``
stands for an infinite number, and times are Unix times in seconds.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=1e9, description="in seconds")]
Tokens = Annotated[int, Meta(ge=0, le=2**31, description="in tokens")]
Note = Annotated[str, Meta(max_length=500, description="why, for those who ask later")]
Author = Annotated[str, Meta(max_length=100, description="who asks")]


def finite(tokens: float) -> float | None:
    """Return a number, and ``None`` for an infinite one, which JSON does not have."""
    return tokens if math.isfinite(tokens) else None


class ServiceDoc(Struct, frozen=True):
    """The program that answers."""

    version: str
    run: ProcessDoc
    now: float
    read_only: bool
    recorded: Annotated[bool, Meta(description="whether there is more history than in memory")]


class ProcessDoc(Struct, frozen=True):
    """The process that answers, and what it calls itself."""

    id: str
    name: str
    pid: int
    host: str
    started: float


class LimiterDoc(Struct, frozen=True):
    """The state of one limiter."""

    name: str
    limit: Annotated[float | None, Meta(description="in tokens")]
    running: Annotated[int, Meta(description="tokens that are borrowed")]
    waiting: Annotated[int, Meta(description="tasks that wait for a token")]
    cap: Annotated[float | None, Meta(description="where signals have put the limit")]
    ceiling: Annotated[float | None, Meta(description="the most that signals may raise it to")]
    minimum: Annotated[int, Meta(description="the least that signals may lower it to")]
    paused: bool
    paused_for: Annotated[
        float | None,
        Meta(description="seconds; null for until it is resumed, or if it is not paused"),
    ]
    limited_by: Annotated[
        str, Meta(description="the least bound: cap, policy, override, pause, breaker or withheld")
    ]
    bounds: Annotated[dict[str, float | None], Meta(description="what bounds the limit, in tokens")]
    override: OverrideDoc | None


class OverrideDoc(Struct, frozen=True):
    """A limit that somebody has set, which no signal and no policy moves."""

    limit: float | None
    by: str | None
    note: str | None
    until: Annotated[float | None, Meta(description="when it ends by itself")]


class DecisionDoc(Struct, frozen=True):
    """One change of a limit, or one that was refused, and why."""

    limiter: str
    time: float
    signal: Annotated[str | None, Meta(description="up, down, or null if it was no signal")]
    before: float | None
    after: float | None
    reason: str
    by: Annotated[str | None, Meta(description="who asked for it")]
    note: Annotated[str | None, Meta(description="why, as they said")]
    applied: bool
    repeated: Annotated[int, Meta(description="how many refusals like this one followed it")]
    text: Annotated[str, Meta(description="a sentence for people")]
    evidence: dict[str, str | float | bool | None]


class AnswerDoc(Struct, frozen=True):
    """What an order has led to."""

    limiter: LimiterDoc
    decision: DecisionDoc
    applied: bool
    dry_run: bool = False


class HistoryDoc(Struct, frozen=True):
    """Samples of one limiter, as columns of equal length."""

    limiter: str
    times: list[float]
    limit: list[float | None]
    running: list[float]
    waiting: list[float]
    missing: Annotated[str | None, Meta(description="why nothing is here of what was recorded")] = (
        None
    )


class StepDoc(Struct, frozen=True):
    """What became of the items of one step so far."""

    name: str
    limiter: str | None
    received: int
    completed: int
    discarded: int
    failed: int
    diverted: int
    cancelled: int
    skipped: int
    in_flight: int
    queued: Annotated[int, Meta(description="of those in flight, how many have not begun")]
    waiting: Annotated[int, Meta(description="of them, how many wait for a token")]
    window: Annotated[float | None, Meta(description="how many it may have in hand")]
    retried: int
    batches: dict[str, int]


class RunErrorDoc(Struct, frozen=True):
    """An error that a run has recorded."""

    run: str
    time: float | None
    step: str | None
    identifiers: list[str]
    text: str


class RunDoc(Struct, frozen=True):
    """A run of phases or of a pipeline."""

    id: Annotated[str, Meta(description="its name, which stands in paths")]
    kind: Annotated[str, Meta(description="phases or pipeline")]
    state: Annotated[str, Meta(description="running, draining, cancelling or ended")]
    started: float
    total: Annotated[
        int | None, Meta(description="how many items its source has, if that is known")
    ]
    steps: list[StepDoc]
    errors: Annotated[list[RunErrorDoc], Meta(description="the newest")]
    errors_omitted: Annotated[int, Meta(description="how many there were before them")]


class RunStateDoc(Struct, frozen=True):
    """How far a run has come: what changes all the time."""

    id: str
    state: str
    total: int | None
    steps: list[StepDoc]
    errors: Annotated[int, Meta(description="how many it has recorded")]


class StateDoc(Struct, frozen=True):
    """What has changed since the last state that this stream was told."""

    time: float
    limiters: list[LimiterDoc]
    gone: Annotated[list[str], Meta(description="limiters that are there no more")]
    runs: list[RunStateDoc]


class MessageDoc(Struct, frozen=True):
    """What a message has led to."""

    acted: list[ActedDoc]
    ignored: list[IgnoredDoc]


class ActedDoc(Struct, frozen=True):
    """Something that was done because of a message."""

    message: str
    action: str
    limiter: str
    decision: DecisionDoc


class IgnoredDoc(Struct, frozen=True):
    """Something in a message that led to nothing, and why."""

    message: str
    why: str


class ProblemDoc(Struct, frozen=True):
    """What was wrong, in a sentence that says what would be right."""

    error: str


# ---- orders ----


class Order(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be said with each order."""

    by: Author | None = None
    note: Note | None = None
    dry_run: bool = False


class PlainOrder(Order, frozen=True):
    """An order that the path says all of."""


class SetOrder(Order, frozen=True):
    """A limit that holds until it is released, or for some seconds."""

    limit: Tokens
    seconds: Seconds | None = None


class PauseOrder(Order, frozen=True):
    """A pause, of some seconds or until it is resumed."""

    seconds: Seconds | None = None


class EndOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """The end of a run; ``seconds`` after which what is still in hand is cancelled."""

    seconds: Seconds | None = None
