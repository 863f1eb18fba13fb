"""The options of limiters, for those who pass them on."""

from __future__ import annotations

from typing import TypedDict

from trio_turnstile._errors import On
from trio_turnstile.limits import LimitPolicy

from .breaking import CallBound
from .throttle import Throttle


class LimiterOptions(TypedDict, total=False):
    """The arguments of `Limiter` other than name and ceiling, with the same meaning."""

    throttle: Throttle
    policy: LimitPolicy | None
    enforce: bool
    overload: On
    breaker: CallBound | None
    max_waiting: int | None
