"""Events: frozen records of what happens to limiters. Those of runs are in `live_run`."""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from time import time as unix_time
from typing import TypeAlias, final

import attrs

from .live_run import ErrorNoted, RunClosed, RunOpened


@final
class Signal(enum.Enum):
    """A request to move a limit: one step `UP` or one step `DOWN`."""

    UP = "up"
    DOWN = "down"


@final
class Reason(enum.Enum):
    """Why a limit was changed, or why a change was refused."""

    SIGNAL = "signal"
    """A signal moved the cap by one step."""
    MANUAL = "manual"
    """The operator assigned ``total_tokens``."""
    POLICY = "policy"
    """The adaptive policy moved the limit."""
    SHADOW = "shadow"
    """The policy would have moved the limit, but is not enforced: nothing changed."""
    PAUSED = "paused"
    """The limiter was paused: the limit is 0 until it is resumed."""
    RESUMED = "resumed"
    """A pause, or the withholding of a token, ended: by `Limiter.resume` or after its time."""
    WITHHELD = "withheld"
    """A call was refused with a time to wait, and its token is withheld for that long."""
    BREAKER = "breaker"
    """The breaker opened, admits probes, or closed."""
    HOLDING = "holding"
    """Refused: less than ``hold`` seconds have passed since the last change."""
    AT_CEILING = "at_ceiling"
    """Refused: an up signal at the ceiling."""
    AT_MINIMUM = "at_minimum"
    """Refused: a down signal at the minimum."""
    OVERRIDE = "override"
    """Somebody set the limit with `Turnstile.ask`; meanwhile no signal and no policy moves it."""
    RELEASED = "released"
    """An override ended: somebody released it, or its time was over."""
    OVERRIDDEN = "overridden"
    """Refused: a signal while an override is in force."""
    UNCHANGED = "unchanged"
    """Refused: there was nothing to resume, or to release."""

    @property
    def refusal(self) -> bool:
        """Whether nothing was changed."""
        return self in _REFUSALS


_REFUSALS = frozenset(
    {
        Reason.HOLDING,
        Reason.AT_CEILING,
        Reason.AT_MINIMUM,
        Reason.SHADOW,
        Reason.OVERRIDDEN,
        Reason.UNCHANGED,
    }
)


@final
@attrs.frozen
class Decision:
    """One change of a limit, or one refused change, with its reason."""

    limiter: str
    """The name of the limiter."""
    time: float
    """When it was made, on trio's clock, in seconds; the last time, for repeated refusals."""
    signal: Signal | None
    """The signal that asked for the change; ``None`` if no signal did."""
    before: float
    """The limit before, in tokens."""
    after: float
    """The limit after, in tokens; the same if the change was refused."""
    reason: Reason
    """Why the limit was changed, or was not."""
    evidence: Mapping[str, object] = attrs.field(factory=dict, hash=False)
    """The figures behind it: the cap, the seconds of hold left, the policy's figures."""
    wall_time: float = attrs.field(factory=unix_time, eq=False)
    """When it was made, as a Unix time, in seconds."""
    repeated: int = 0
    """How many more refusals like it this decision stands for, with no change between them."""
    by: str | None = None
    """Who asked for it, if they said so: see `Turnstile.ask`."""
    note: str | None = None
    """What they noted, if anything."""

    @property
    def applied(self) -> bool:
        """Whether the change was made, and not refused."""
        return not self.reason.refusal


@final
@attrs.frozen
class Bound:
    """One of the bounds of a limit: the limit is the least of them.

    `LimiterStatistics.bounds` has them by name.
    """

    tokens: float
    """The most that this bound allows, in tokens."""
    why: Mapping[str, object] = attrs.field(factory=dict, hash=False)
    """What put it there: a ``"reason"``, and the figures behind it."""


@final
@attrs.frozen
class LimiterStatistics:
    """The state of a `Limiter` at one moment, for people and for tests."""

    name: str
    """The name of the limiter."""
    borrowed_tokens: int
    """How many tokens are borrowed."""
    total_tokens: float
    """The limit. It may be less than `borrowed_tokens` just after it was lowered."""
    borrowers: list[object]
    """The tasks or other objects that hold a token."""
    tasks_waiting: int
    """How many tasks wait for a token."""
    cap: float
    """Where signals and assignments have put the limit; a policy proposes limits below it."""
    ceiling: float
    """The most that signals may raise the limit to."""
    minimum: int
    """The least that signals may lower the limit to."""
    paused: bool
    """Whether the limiter is paused."""
    closed: bool
    """Whether the limiter is closed."""
    bounds: Mapping[str, Bound]
    """Why the limit is what it is: it is the least of these bounds, by name.

    ``"cap"`` is always there, ``"policy"`` if an adaptive policy is enforced, ``"pause"``
    while the limiter is paused, ``"withheld"`` while tokens are withheld. After an
    assignment to `Limiter.total_tokens` only the cap is there, until the policy is
    consulted again, at most a tenth of a second later.
    """
    withheld: int = 0
    """How many tokens are out of use because the calls that held them were refused."""


@final
@attrs.frozen
class Load:
    """How busy a `Limiter` is at one moment."""

    limit: float
    """The limit, in tokens."""
    running: int
    """How many tokens are borrowed."""
    waiting: int
    """How many tasks wait for a token, including those that were given one but have not run yet."""


@final
@attrs.frozen
class Totals:
    """What a `Limiter` has done so far, in numbers that only grow."""

    admitted: int
    """How many tokens were borrowed."""
    turned_away: int
    """How many callers got `Saturated`, because too many were waiting."""
    decisions: Mapping[Reason, int] = attrs.field(hash=False)
    """How many decisions there were for each reason, if any."""


@final
@attrs.frozen
class Snapshot:
    """A sample of how busy a limiter was at one moment."""

    limiter: str
    """The name of the limiter."""
    time: float
    """When it was taken, on trio's clock, in seconds."""
    limit: float
    """The limit, in tokens."""
    running: int
    """How many tokens were borrowed."""
    waiting: int
    """How many tasks were waiting for a token."""


@final
@attrs.frozen
class LimiterOpened:
    """A limiter joined a turnstile."""

    limiter: str
    """The name of the limiter in the turnstile."""
    time: float
    """When it joined, on trio's clock, in seconds."""
    ceiling: float
    """The ceiling of the limiter, in tokens."""


@final
@attrs.frozen
class LimiterClosed:
    """A limiter of a turnstile was closed."""

    limiter: str
    """The name of the limiter."""
    time: float
    """When it was closed, on trio's clock, in seconds."""


Event: TypeAlias = (
    Decision | Snapshot | LimiterOpened | LimiterClosed | RunOpened | RunClosed | ErrorNoted
)
"""What observers are called with."""


def log_decisions(event: Event, /) -> None:
    """Log decisions; pass it to `open_turnstile` as an observer.

    They go to the logger ``trio_turnstile.limiter``: changes at INFO, refusals at DEBUG. The
    record has the decision as ``record.decision``. Other events are not logged.
    """
    # One logger for all, because `logging` keeps every logger for ever, and limiters come and go.
    if isinstance(event, Decision):
        logging.getLogger("trio_turnstile.limiter").log(
            logging.INFO if event.applied else logging.DEBUG,
            "%s: %s -> %s (%s)",
            event.limiter,
            event.before,
            event.after,
            event.reason.value,
            extra={"decision": event},
        )
