"""Actions: what somebody can ask of a limiter. Frozen values, and what a controller makes of them.

Each of them leads to a decision, even if nothing is changed.
"""

from __future__ import annotations

import math
from typing import TypeAlias, final

import attrs

from trio_turnstile._util import check_whole, seconds

from .controller import LimitController
from .events import Decision, Signal
from .override import Asker, Override


def _limit(_: object, field: attrs.Attribute[float], value: object) -> None:
    check_whole(field.name, value, 0, infinite=True)


@final
@attrs.frozen
class SetLimit:
    """Set the limit past every rule: no signal and no policy moves it until the override ends.

    The override ends after ``for_seconds``, with `Release`, or when somebody assigns to
    `Limiter.total_tokens`. Then signals and the policy decide again. A pause goes on meanwhile.

    Raises:
      TypeError, ValueError: if the limit is neither a whole number of 0 or more nor `math.inf`,
        or if the seconds are not a number over 0.
    """

    tokens: float = attrs.field(validator=_limit)
    """The limit, in tokens: an int, or `math.inf`."""
    for_seconds: float | None = attrs.field(
        default=None, validator=seconds(positive=True, optional=True), kw_only=True
    )
    """After how many seconds the override ends automatically; ``None`` for never."""


@final
@attrs.frozen
class Release:
    """End the override that `SetLimit` has set."""


@final
@attrs.frozen
class Pause:
    """Admit nobody for some time, as `Limiter.pause` does.

    Raises:
      TypeError, ValueError: if the seconds are not a number over 0.
    """

    seconds: float | None = attrs.field(
        default=None, validator=seconds(positive=True, optional=True)
    )
    """The length of the pause; ``None`` for a pause until `Resume`."""


@final
@attrs.frozen
class Resume:
    """End a pause, and put withheld tokens back into use, as `Limiter.resume` does."""


Action: TypeAlias = Signal | SetLimit | Release | Pause | Resume
"""What can be asked of a limiter: see `Turnstile.ask`."""


def check_action(action: object) -> None:
    """Raise `TypeError` if it is not an action."""
    if not isinstance(action, Action):
        raise TypeError(
            "an action is Signal.UP, Signal.DOWN, SetLimit(20), Release(), Pause(60) or Resume(), "
            f"not {action!r}"
        )


def carry_out(
    action: Action, controller: LimitController, asker: Asker, now: float, in_use: int
) -> Decision:
    """Do what is asked, and return the decision; ``in_use`` tokens are borrowed."""
    match action:
        case Signal():
            return controller.signal(action, now, in_use, asker)
        case SetLimit():
            seconds = math.inf if action.for_seconds is None else action.for_seconds
            override = Override(action.tokens, asker.by, asker.note, now, now + seconds)
            return controller.set(override, now)
        case Release():
            released = controller.release(now, asker)
            return released or controller.leave("release", now, asker)
        case Pause():
            return controller.pause(action.seconds, now, asker)
        case _:  # Resume
            resumed = controller.resume(now, asker)
            return resumed or controller.leave("resume", now, asker)
