"""`StepRun`: one step in one run of a pipeline, with its books and its attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, final

import trio
from trio.lowlevel import disable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.beginnings import timed
from trio_turnstile._engine.counts import Counts
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import Slot
from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._limiting.either import Tokens
from trio_turnstile._util import refuse_stray

from .steps import Step

Function: TypeAlias = Callable[[Any], Awaitable[Any]]
Attempt: TypeAlias = Callable[[Any, Slot], Awaitable[Any]]


@final
class StepRun:
    """The function of a step, the books of its items, and how it tries them.

    Args:
      step: the step.
      name: its name, unique in the pipeline.
      function: what is called with each item.
      tokens: what a new attempt needs one of; ``None`` for nothing.
      state: records errors, and stops the run when the policies say so.
    """

    def __init__(
        self,
        step: Step,
        name: str,
        function: Function,
        *,
        tokens: Tokens | None,
        state: RunState,
    ) -> None:
        self.name = name
        self.tokens = tokens
        self.counts = Counts()
        within = function if step.timeout is None else _in_time(function, step.timeout)
        self.function = timed(within, step.policies)
        """What is called with each item."""
        self.attempt = _attempt(self.function)
        """Calls it with an item, open to Ctrl-C; the slot is for the engine."""
        self.attempts = Attempts[Any](
            step.policies,
            counts=self.counts,
            state=state,
            describe=self._describe,
            tokens=tokens,
            rate=step.rate,
        )

    def recover(self, item: Any, slot: Slot, error: Exception) -> Awaitable[Any]:
        """Go on after the first attempt at an item, as `Attempts.recover` does."""
        return self.attempts.recover(item, slot, error, self.attempt)

    def _describe(self, error: Exception, item: Any, slot: Slot) -> ConcurrentError:
        return describe(error, item=item, phase=self.name)


def _attempt(function: Function) -> Attempt:
    # Ctrl-C may strike in the user's function at any point, in the engine at none.
    @disable_ki_protection
    async def call(item: Any, slot: Slot) -> Any:
        try:
            return await function(item)
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise

    return call


def _in_time(function: Function, timeout: float) -> Function:
    async def call(item: Any) -> Any:
        # `trio.fail_after` sets the traceback of an error that passes, which some errors refuse.
        with trio.move_on_after(timeout):
            return await function(item)
        raise trio.TooSlowError

    return call
