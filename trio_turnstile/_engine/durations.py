"""How long calls of user code take: measured only if somebody asks for it.

Two looks at the clock and one more coroutine for each item would be felt. So whether its calls are
measured is decided when a run begins, and a run that is not measured pays nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import trio

from trio_turnstile._limiting.live_run import CallOutcome

T = TypeVar("T")
R = TypeVar("R")

Tell: TypeAlias = Callable[[float, CallOutcome], object]
"""A function that is told how many seconds a call took, and how it ended."""


def measured(function: Callable[[T], Awaitable[R]], tell: Tell) -> Callable[[T], Awaitable[R]]:
    """Return the function, measured."""

    async def call(argument: T) -> R:
        began = trio.current_time()
        outcome: CallOutcome = "cancelled"
        try:
            result = await function(argument)
            outcome = "completed"
            return result
        except Exception:
            outcome = "failed"
            raise
        finally:
            tell(trio.current_time() - began, outcome)

    return call
