"""`StepRun`: one step in one run of a pipeline, with its books and its attempts."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, final

import trio
from trio.lowlevel import disable_ki_protection

from ._attempts import Attempts
from ._control import Control, Counts
from ._lease import AnyLimiter, Lease
from ._steps import Step


@final
class StepRun:
    """The function of a step, what became of its items, and how it tries them.

    Args:
      step: the step.
      name: its name, unique in the pipeline.
      function: what is called with each item.
      limiter: what a new attempt needs a token of; ``None`` for nothing.
      control: is told of errors, and to stop when the policies say so.
    """

    def __init__(
        self,
        step: Step,
        name: str,
        function: Callable[[Any], Awaitable[Any]],
        *,
        limiter: AnyLimiter | None,
        control: Control,
    ) -> None:
        self.name = name
        self.counts = Counts()
        self.cut_off: list[Any] = []
        """The items that were in hand when they were cancelled."""
        self.attempt = _attempt(function, step.timeout)
        """Calls the function with an item; the lease is for the engine."""
        self.attempts = Attempts[Any](
            step.policies,
            counts=self.counts,
            control=control,
            phase=name,
            limiter=limiter,
            rate=step.rate,
        )

    def recover(self, item: Any, lease: Lease, error: Exception) -> Awaitable[Any]:
        """Go on after the first attempt at an item, as `Attempts.recover` does."""
        return self.attempts.recover(item, lease, error, self.attempt)


Attempt: TypeAlias = Callable[[Any, Lease], Awaitable[Any]]


def _attempt(function: Callable[[Any], Awaitable[Any]], timeout: float | None) -> Attempt:
    # Ctrl-C may strike in the user's function at any point, in the engine at none.

    @disable_ki_protection
    async def call(item: Any, lease: Lease) -> Any:
        return await function(item)

    @disable_ki_protection
    async def call_in_time(item: Any, lease: Lease) -> Any:
        with trio.fail_after(timeout or math.inf):
            return await function(item)

    return call if timeout is None else call_in_time
