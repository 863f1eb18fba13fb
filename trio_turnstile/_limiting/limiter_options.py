"""The options of limiters, for those who pass them on."""

from __future__ import annotations

from typing import TypedDict

from trio_turnstile._errors import On
from trio_turnstile.limits import LimitPolicy

from .breaking import CallBound
from .throttle import Throttle


class LimiterOptions(TypedDict, total=False):
    """The options of a `Limiter`, with the same meaning: its arguments but name and ceiling."""

    throttle: Throttle
    policy: LimitPolicy | None
    enforce: bool
    overload: On
    breaker: CallBound | None
    max_waiting: int | None
