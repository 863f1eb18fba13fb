"""`Throttle`: the rules for signals. One step up or down, a minimum, a hold. Pure."""

from __future__ import annotations

import math
from typing import final

import attrs

from trio_turnstile._util import check_seconds, check_whole

from .events import Signal


def _steps(_: object, field: attrs.Attribute[int], value: int) -> None:
    check_whole(field.name, value, 1)


def _minimum(_: object, field: attrs.Attribute[int], value: int) -> None:
    check_whole(field.name, value, 0)


def _hold(_: object, field: attrs.Attribute[float], value: float) -> None:
    check_seconds(field.name, value)


@final
@attrs.frozen(kw_only=True)
class Throttle:
    """How signals move a limit.

    Raises:
      TypeError: for a step or minimum that is no int, a hold that is no number.
      ValueError: for a step under 1, a minimum or a hold under 0, or a NaN.
    """

    up: int = attrs.field(default=1, validator=_steps)
    """Tokens added by an up signal."""
    down: int = attrs.field(default=2, validator=_steps)
    """Tokens taken by a down signal."""
    min: int = attrs.field(default=1, validator=_minimum)
    """Signals never take the limit under this many tokens."""
    hold: float = attrs.field(default=30.0, validator=_hold)
    """Seconds after an applied change in which signals are refused."""

    def step(self, signal: Signal, cap: float, ceiling: float, in_use: int) -> float:
        """Return the cap after ``signal``, the hold aside.

        Args:
          signal: up or down.
          cap: the cap now, in tokens.
          ceiling: the most it may become, in tokens.
          in_use: tokens borrowed now. An infinite cap comes down from there, as
            infinity less two would still be infinity.
        """
        if signal is Signal.UP:
            return min(max(cap + self.up, self.min), ceiling)
        start = cap if math.isfinite(cap) else in_use
        return min(cap, max(start - self.down, self.min))
