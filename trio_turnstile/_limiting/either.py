"""What may bound a stage: a `Limiter`, a `trio.CapacityLimiter`, or a number of tokens."""

from __future__ import annotations

from typing import TypeAlias

import trio

from trio_turnstile._util import check_whole

from .limiter import Limiter
from .throttle import Throttle

AnyLimiter: TypeAlias = Limiter | trio.CapacityLimiter
"""What bounds a stage."""


def as_limiter(limiter: AnyLimiter | int, name: str) -> AnyLimiter:
    """Return the limiter; from a number, a new one.

    Raises:
      TypeError: if it is neither a limiter nor a number of tokens.
      ValueError: if the number is negative.
    """
    if isinstance(limiter, Limiter | trio.CapacityLimiter):
        return limiter
    try:
        check_whole(name, limiter, 0, infinite=True)
    except TypeError:
        raise TypeError(
            f"{name} must be a Limiter, a trio.CapacityLimiter or a number of tokens, "
            f"not {limiter!r}"
        ) from None
    return Limiter(name, limiter, throttle=Throttle(min=0))
