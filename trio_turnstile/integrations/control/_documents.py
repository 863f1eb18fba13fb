"""The documents that are sent over HTTP, and the orders that are received.

They are structs of msgspec, which checks, encodes and describes them. In the documents ``null``
stands for an infinite number, and times are Unix times in seconds.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0, le=1e9, description="in seconds")]
Tokens = Annotated[int, Meta(ge=0, le=2**31, description="in tokens")]
Note = Annotated[str, Meta(max_length=500, description="the reason, for those who ask later")]
Author = Annotated[str, Meta(max_length=100, description="who asks")]


def finite(tokens: float) -> float | None:
    """Return a number, or ``None`` for an infinite number, which JSON does not have."""
    return tokens if math.isfinite(tokens) else None


class ServiceDoc(Struct, frozen=True):
    """The program that answers."""

    version: str
    run: ProcessDoc
    now: float
    read_only: bool
    recorded: Annotated[bool, Meta(description="whether there is more history than in memory")]


class ProcessDoc(Struct, frozen=True):
    """The process that answers."""

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
    ceiling: Annotated[float | None, Meta(description="the highest limit that signals can set")]
    minimum: Annotated[int, Meta(description="the lowest limit that signals can set")]
    paused: bool
    paused_for: Annotated[
        float | None,
        Meta(description="seconds; null if it is paused until resumed, or not paused"),
    ]
    limited_by: Annotated[
        str, Meta(description="the least bound: cap, policy, override, pause, breaker or withheld")
    ]
    bounds: Annotated[dict[str, float | None], Meta(description="what bounds it, in tokens")]
    override: OverrideDoc | None


class OverrideDoc(Struct, frozen=True):
    """A limit that somebody has set, and that no signal and no policy moves."""

    limit: float | None
    by: str | None
    note: str | None
    until: Annotated[float | None, Meta(description="when it ends automatically")]


class DecisionDoc(Struct, frozen=True):
    """A change of a limit, or a refused change, with its reason."""

    limiter: str
    time: float
    signal: Annotated[str | None, Meta(description="up, down, or null if it was not a signal")]
    before: float | None
    after: float | None
    reason: str
    by: Annotated[str | None, Meta(description="who asked for it")]
    note: Annotated[str | None, Meta(description="the reason that they gave")]
    applied: bool
    repeated: Annotated[int, Meta(description="how many refusals like this one followed it")]
    text: Annotated[str, Meta(description="a sentence for people")]
    evidence: dict[str, str | float | bool | None]


class AnswerDoc(Struct, frozen=True):
    """The result of an order."""

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
    missing: Annotated[str | None, Meta(description="why recorded samples could not be read")] = (
        None
    )


class StepDoc(Struct, frozen=True):
    """The counts of one step so far."""

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
    queued: Annotated[int, Meta(description="how many items in flight have not begun")]
    waiting: Annotated[int, Meta(description="how many queued items wait for a token")]
    window: Annotated[float | None, Meta(description="how many items it may have in hand")]
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

    id: Annotated[str, Meta(description="its name, for use in paths")]
    kind: Annotated[str, Meta(description="phases or pipeline")]
    state: Annotated[str, Meta(description="running, draining, cancelling or ended")]
    started: float
    total: Annotated[
        int | None, Meta(description="how many items its source has, if that is known")
    ]
    steps: list[StepDoc]
    errors: Annotated[list[RunErrorDoc], Meta(description="the newest errors")]
    errors_omitted: Annotated[int, Meta(description="how many errors came before them")]


class RunStateDoc(Struct, frozen=True):
    """How far a run has come: the figures that keep changing."""

    id: str
    state: str
    total: int | None
    steps: list[StepDoc]
    errors: Annotated[int, Meta(description="how many errors it has recorded")]


class StateDoc(Struct, frozen=True):
    """What has changed since the last state on this stream."""

    time: float
    limiters: list[LimiterDoc]
    gone: Annotated[list[str], Meta(description="limiters that no longer exist")]
    runs: list[RunStateDoc]


class MessageDoc(Struct, frozen=True):
    """The result of a message."""

    acted: list[ActedDoc]
    ignored: list[IgnoredDoc]


class ActedDoc(Struct, frozen=True):
    """Something that was done because of a message."""

    message: str
    action: str
    limiter: str
    decision: DecisionDoc


class IgnoredDoc(Struct, frozen=True):
    """A part of a message that had no effect, and why."""

    message: str
    why: str


class ProblemDoc(Struct, frozen=True):
    """What is wrong, in a sentence that says what would be right."""

    error: str


# ---- orders ----


class Order(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of every order."""

    by: Author | None = None
    note: Note | None = None
    dry_run: bool = False


class PlainOrder(Order, frozen=True):
    """An order that needs no fields of its own."""


class SetOrder(Order, frozen=True):
    """A limit that holds until it is released, or for some seconds."""

    limit: Tokens
    seconds: Seconds | None = None


class PauseOrder(Order, frozen=True):
    """A pause, for some seconds or until it is resumed."""

    seconds: Seconds | None = None


class EndOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """The end of a run; after ``seconds``, items that are still in hand are cancelled."""

    seconds: Seconds | None = None
