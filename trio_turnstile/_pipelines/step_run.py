"""`StepRun`: one step in one run of a pipeline, with its books and its attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias, cast, final

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from trio_turnstile._engine.attempts import Attempts
from trio_turnstile._engine.beginnings import timed
from trio_turnstile._engine.counts import Counts, Fate
from trio_turnstile._engine.durations import Tell, measured
from trio_turnstile._engine.gate import Gate
from trio_turnstile._engine.pacing import Cost, paid
from trio_turnstile._engine.run_state import RunState
from trio_turnstile._engine.slot import Slot
from trio_turnstile._engine.tracing import untraced
from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._limiting.either import Tokens
from trio_turnstile._util import refuse_stray, unprotected

from .gathering import Gathered
from .steps import Step
from .traced import StepTrace

Function: TypeAlias = Callable[[Any], Awaitable[Any]]
Attempt: TypeAlias = Callable[[Any, Slot], Awaitable[Any]]


@final
class StepRun:
    """The function of a step, the books of its items, and how it tries them.

    Args:
      step: the step.
      name: its name, unique in the pipeline.
      function: what is called with each item.
      tokens: a new attempt needs one of them; ``None`` for nothing.
      state: records errors, and stops the run when the policies say so.
      trace: is told what became of the items, if they are traced.
      tell: is told how long the calls of the function take, if anybody is.
    """

    def __init__(
        self,
        step: Step,
        name: str,
        function: Function,
        *,
        tokens: Tokens | None,
        state: RunState,
        trace: StepTrace | None = None,
        tell: Tell | None = None,
    ) -> None:
        self.name = name
        self.gate: Gate | None = None
        """Where items take their tokens, if not one each."""
        if tokens is not None and step.claims is not None:
            whole = step.batch is None
            self.gate = Gate(tokens, step.claims if whole else step.claims.through(_members))
            tokens = self.gate.tokens
        self.tokens = tokens
        self.own_limiter = step.own_limiter
        """Its limiter, if it was made from a bare number."""
        self.counts = Counts()
        self.trace = trace
        if trace is not None:
            around = trace.around if step.batch is None else trace.around_batch
            function = around(function)
        within = function if step.timeout is None else _in_time(function, step.timeout)
        if tell is not None:
            within = measured(within, tell)
        self.attempts = Attempts[Any](
            step.policies,
            counts=self.counts,
            state=state,
            describe=self.describe,
            tokens=tokens,
            rate=step.rate,
            cost=step.cost if step.batch is None else _of_batch(step.cost),
            refuse=self._refuse if step.batch is None else _handle_nevertheless,
        )
        self.function = timed(paid(within, self.attempts.pace), step.policies)
        """What is called with each item."""
        self.attempt = _attempt(self.function)
        """Calls it with an item, open to Ctrl-C; the slot is for the engine."""

    def recover(self, item: Any, slot: Slot, error: Exception) -> Awaitable[Any]:
        """Go on after the first attempt at an item, as `Attempts.recover` does."""
        going_on = self.attempts.recover(item, slot, error, self.attempt)
        return going_on if self.trace is None else self._traced(going_on, item)

    async def _traced(self, going_on: Awaitable[Any], item: Any) -> Any:
        result = await going_on
        if isinstance(result, Fate):
            self.note_end(item, result)
        return result

    async def refuse(self, error: Exception, item: Any, slot: Slot) -> None:
        """End an item that cannot have the tokens that it needs, or that cannot be paid for."""
        slot.release_cancelled()
        slot.fate = await self.give_up(error, item, slot)

    async def give_up(self, error: Exception, item: Any, slot: Slot) -> Fate:
        """End an item at which no other attempt can be made, and return how it ended."""
        failed = self.describe(error, item, slot)
        fate = await self.attempts.give_up(failed, self.attempts.judge_finally(failed))
        self.note_end(item, fate)
        return fate

    async def _refuse(self, error: Exception, item: Any, slot: Slot) -> bool:
        await self.refuse(error, item, slot)
        return False

    def describe(self, error: Exception, item: Any, slot: Slot | None = None) -> ConcurrentError:
        """Describe what an attempt at an item has raised."""
        failed = describe(error, item=untraced(item), phase=self.name)
        if self.trace is not None:
            self.trace.failed(item, failed)
        return failed

    def note_end(self, item: Any, fate: Fate) -> None:
        """Tell the trace, if there is one, that an item has ended here without success."""
        if self.trace is not None:
            self.trace.ended(item, fate)


def _members(gathered: Gathered[Any]) -> list[Any]:
    return list(map(untraced, gathered.items))


def _attempt(function: Function) -> Attempt:
    # Ctrl-C may strike anywhere in the user's function, but nowhere in the engine.
    @disable_ki_protection
    async def call(item: Any, slot: Slot) -> Any:
        try:
            return await function(item)
        except trio.Cancelled as cancelled:
            refuse_stray(cancelled)
            raise

    return call


async def _handle_nevertheless(error: Exception, item: Any, slot: Slot) -> bool:  # noqa: ASYNC910
    """Let the step end a batch whose cost is not known, so that its members fail one by one."""
    return True


def _of_batch(cost: Cost | None) -> Cost | None:
    """Return what a batch costs: the sum over its members."""
    return None if cost is None else partial(_total, cost)


def _total(cost: Cost, batch: Gathered[Any]) -> float | Mapping[str, float]:
    costs = [cost(item) for item in batch.items]
    by_name = [each for each in costs if isinstance(each, Mapping)]
    if not by_name:
        return sum(cast("list[float]", costs))
    names = dict.fromkeys(name for each in by_name for name in each)
    return {name: sum(each.get(name, 0) for each in by_name) for name in names}


def _in_time(function: Function, timeout: float) -> Function:
    # Protected, since an interrupt just before the exit of the scope would leave it open.
    @enable_ki_protection
    async def call(item: Any) -> Any:
        # `trio.fail_after` sets the traceback of an error that passes, which some errors refuse.
        with trio.move_on_after(timeout):
            return await unprotected(function, item)
        raise trio.TooSlowError

    return call
