"""What the library tells: frozen event records, and how they reach observers.

An observer is any callable that takes one event. It runs in the task that made
the event, so it must be quick and must not block; one that raises is logged and
heard no more, so that watching can never harm what is watched.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias, final

import attrs


@final
class Signal(enum.Enum):
    """What may be asked of a limiter: one step `UP` or one step `DOWN`."""

    UP = "up"
    DOWN = "down"


@final
class Reason(enum.Enum):
    """Why a limit was changed, or why it was not."""

    SIGNAL = "signal"
    """A signal moved the cap by one step."""
    MANUAL = "manual"
    """The operator assigned ``total_tokens``."""
    POLICY = "policy"
    """The adaptive policy proposed another limit."""
    SHADOW = "shadow"
    """It would have, but is not enforced: nothing was changed."""
    PAUSED = "paused"
    """Admission was paused: the limit is 0 until it is resumed."""
    RESUMED = "resumed"
    """A pause ended, by command or because its time was up."""
    HOLDING = "holding"
    """Refused: the last change is less than ``hold`` seconds old."""
    AT_CEILING = "at_ceiling"
    """Refused: an up signal at the ceiling."""
    AT_MINIMUM = "at_minimum"
    """Refused: a down signal at the minimum."""

    @property
    def refusal(self) -> bool:
        """Whether this is a reason for not changing anything."""
        return self in _REFUSALS


_REFUSALS = frozenset({Reason.HOLDING, Reason.AT_CEILING, Reason.AT_MINIMUM, Reason.SHADOW})


@final
@attrs.frozen
class Decision:
    """One change of a limit, or one refusal, with what led to it."""

    limiter: str
    """The name of the limiter."""
    time: float
    """When, on trio's clock, in seconds."""
    signal: Signal | None
    """The signal that asked for it; ``None`` where no signal did."""
    before: float
    """The limit before, in tokens."""
    after: float
    """The limit after, in tokens; the same where it was refused."""
    reason: Reason
    """Why."""
    evidence: Mapping[str, object] = attrs.field(factory=dict, hash=False)
    """The figures behind it: the cap, the seconds of hold left, a policy's own."""

    @property
    def applied(self) -> bool:
        """Whether anything was changed."""
        return not self.reason.refusal


@final
@attrs.frozen
class LimiterStatistics:
    """The state of a `Limiter` at one moment, for people and for tests."""

    name: str
    """The name of the limiter."""
    borrowed_tokens: int
    """How many tokens are borrowed."""
    total_tokens: float
    """The limit. Less than `borrowed_tokens` just after it was lowered."""
    borrowers: list[object]
    """The tasks or other objects that hold a token."""
    tasks_waiting: int
    """How many tasks wait for a token."""
    cap: float
    """Where signals and assignments have put the limit; a policy stays below it."""
    ceiling: float
    """The most that signals may make of it."""
    minimum: int
    """The least that signals may make of it."""
    paused: bool
    """Whether admission is paused."""
    closed: bool
    """Whether the limiter is closed."""


@final
@attrs.frozen
class Snapshot:
    """How busy a limiter was at one moment."""

    limiter: str
    """The name of the limiter."""
    time: float
    """When, on trio's clock, in seconds."""
    limit: float
    """The limit, in tokens."""
    running: int
    """How many tokens were borrowed."""
    waiting: int
    """How many tasks were waiting for one."""


@final
@attrs.frozen
class LimiterOpened:
    """A limiter joined a turnstile."""

    limiter: str
    """The name it has there."""
    time: float
    """When, on trio's clock, in seconds."""
    ceiling: float
    """Its ceiling, in tokens."""


@final
@attrs.frozen
class LimiterClosed:
    """A limiter of a turnstile was closed."""

    limiter: str
    """Its name."""
    time: float
    """When, on trio's clock, in seconds."""


Event: TypeAlias = Decision | Snapshot | LimiterOpened | LimiterClosed


class Observer(Protocol):
    """Anything that can be called with one event."""

    def __call__(self, event: Event, /) -> Any:
        """Take note of ``event``, quickly and without blocking."""


@final
class Observers:
    """The observers of one turnstile: each gets every event, until it raises."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)

    def __call__(self, event: Event, /) -> None:
        """Hand ``event`` to every observer."""
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception:
                if observer in self._observers:  # it may have raised inside itself
                    self._observers.remove(observer)
                logging.getLogger("trio_turnstile.observers").exception(
                    "observer %r raised on %r and is heard no more", observer, event
                )


def log_decisions(event: Event, /) -> None:
    """Log decisions; pass it to `open_turnstile` as an observer.

    Each goes to the logger ``trio_turnstile.limiter.<name>``: changes at INFO,
    refusals at DEBUG. Other events are not logged.
    """
    if not isinstance(event, Decision):
        return
    logging.getLogger(f"trio_turnstile.limiter.{event.limiter}").log(
        logging.INFO if event.applied else logging.DEBUG,
        "%s: %s -> %s (%s)",
        event.limiter,
        event.before,
        event.after,
        event.reason.value,
        extra={"decision": event},
    )
