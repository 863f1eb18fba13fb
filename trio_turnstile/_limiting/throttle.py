"""`Throttle`: the rules for signals and refusals. Sans-I/O."""

from __future__ import annotations

import math
from typing import final

import attrs

from trio_turnstile._util import seconds, whole

from .events import Signal


@final
@attrs.frozen(kw_only=True)
class Throttle:
    """How signals move a limit, and how long the tokens of refused calls may be withheld.

    Raises:
      TypeError: if a step or the minimum is not an int, or the hold is not a number.
      ValueError: if a step is less than 1, the minimum or the hold is negative, or the
        hold is NaN.
    """

    up: int = attrs.field(default=1, validator=whole(1))
    """Tokens that an up signal adds."""
    down: int = attrs.field(default=2, validator=whole(1))
    """Tokens that a down signal removes."""
    min: int = attrs.field(default=1, validator=whole(0))
    """The least that signals lower the limit to, in tokens."""
    hold: float = attrs.field(default=30.0, validator=seconds())
    """Seconds after an applied change during which signals are refused."""
    max_pause: float = attrs.field(default=60.0, validator=seconds())
    """The most seconds that the token of a refused call is withheld, whatever the service says."""

    def step(self, signal: Signal, cap: float, ceiling: float, in_use: int) -> float:
        """Return the cap after ``signal``, in tokens, regardless of the hold.

        Args:
          signal: up or down.
          cap: the cap now, in tokens.
          ceiling: the most that the cap may become, in tokens.
          in_use: tokens borrowed now. A down signal starts from there if the cap is
            infinite, since infinity minus two is still infinity.
        """
        if signal is Signal.UP:
            return min(max(cap + self.up, self.min), ceiling)
        start = cap if math.isfinite(cap) else in_use
        return min(cap, max(start - self.down, self.min))
