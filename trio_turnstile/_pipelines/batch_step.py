"""`BatchStep`: passes batches to a step, passes on what it made, and books their members.

What a step makes from a batch goes the way of a `Many`: to the steps fused with this one, or into
the inbox of the next stage. When it has gone there, the members that did not fail end. Only then
are the policies asked about the members that failed, so that no back-off holds up what is ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, final

import attrs
from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.attempts import since
from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.slot import Slot
from trio_turnstile._engine.tracing import untraced
from trio_turnstile._engine.verdicts import RetryIn, Verdict
from trio_turnstile._errors import ConcurrentError, leaves
from trio_turnstile._limiting.claims import TooWide
from trio_turnstile._texts import shown_error

from .fused import FusedSteps, Outlet
from .gathering import BatchError, Gathered
from .inbox import BatchInbox
from .step_run import StepRun
from .steps import DISCARD, Many


@final
class BatchStep:
    """Handles batches as they come. Members fail, or are tried again, one by one.

    It also has the books for the worker pool: how a batch ended is not booked, but the
    members of a batch that was never handled are cancelled.
    """

    admit = recover = follow = leave = None

    def __init__(
        self, steps: Sequence[StepRun], inbox: BatchInbox[Any], outlet: Outlet | None
    ) -> None:
        self._step = steps[0]
        self._inbox = inbox
        self._following = FusedSteps(steps, outlet)

    def settle(self, fate: Fate) -> None:
        """Do nothing: the members of a batch that was handled are settled one by one."""

    def cancel(self, batch: Gathered[Any]) -> None:
        """Book the members of a batch that was never handled."""
        for member in batch.items:
            self._inbox.cancel(member)

    @enable_ki_protection
    async def handle(self, batch: Gathered[Any], slot: Slot) -> None:
        """Pass the batch to the step, and its failed members again, as the policies say."""
        left = deque(batch.items)
        attempts, attempt = self._step.attempts, 0
        began: float | None = None
        # Another attempt would not give an item the key, weight or cost that it lacks.
        failure = lacking = batch.failure or (None if slot.toll is None else slot.toll.error)
        judge = attempts.judge if lacking is None else attempts.judge_finally
        try:
            while left:
                attempt += 1
                errors, result = await self._attempt(list(left), slot, failure)
                failure = lacking
                if attempt == 1 and lacking is None:
                    began = attempts.began()
                done = [member for index, member in enumerate(left) if index not in errors]
                left = deque(left[index] for index in sorted(errors))
                if done:
                    await self._complete(done, result, slot)
                again: RetryIn | None = None
                for index in sorted(errors):
                    verdict = await self._end(left[0], errors[index], attempt, began, judge)
                    member = left.popleft()
                    if isinstance(verdict, RetryIn):
                        left.append(member)
                        again = verdict if again is None else max(again, verdict, key=_wait)
                    else:
                        self._inbox.settle(verdict)
                if again is not None:
                    attempt -= not again.spends_try
                    rest = attrs.evolve(batch, items=tuple(left))
                    try:
                        await attempts.back_off(again, slot, rest, len(left))
                    except TooWide as error:
                        failure = error
        finally:
            slot.release_cancelled()
            slot.fate = Fate.COMPLETED  # of the batch: its members have fates of their own
            for member in left:
                self._inbox.cancel(member)

    async def refuse(self, error: Exception, batch: Gathered[Any], slot: Slot) -> None:
        """End the members of a batch that cannot have its tokens."""
        left = deque(batch.items)
        try:
            while left:
                fate = await self._end(left[0], error, 1, None, self._step.attempts.judge_finally)
                assert isinstance(fate, Fate)
                left.popleft()
                self._inbox.settle(fate)
        finally:
            slot.fate = Fate.COMPLETED
            for member in left:
                self._inbox.cancel(member)

    async def _attempt(
        self, members: list[Any], slot: Slot, failure: Exception | None
    ) -> tuple[dict[int, Exception], Any]:
        """Return the errors of the members that failed, by their index, and the result."""
        everybody = range(len(members))
        if failure is not None:
            slot.release_after(failure)
            return dict.fromkeys(everybody, failure), None
        try:
            result = await self._step.attempt(members, slot)
        except Exception as error:
            slot.release_after(error)
            partial = _errors_of_members(error)
            if partial is None:
                return dict.fromkeys(everybody, error), None
            if all(index in everybody for index in partial.errors):
                return partial.errors, Many(partial.passed_on)
            error.add_note(f"the batch had {len(members)} members: no such index")
            return dict.fromkeys(everybody, error), None
        slot.release()
        return {}, result

    async def _complete(self, members: Sequence[Any], result: Any, slot: Slot) -> None:
        """Pass the result of these members on, and book how they ended."""
        if result is not DISCARD and not isinstance(result, Many):
            result = Many((result,))
        if self._step.trace is not None:
            result = self._step.trace.made_of_batch(members, result)
        slot.fate = Fate.CANCELLED
        try:
            rest = self._following.follow(result, slot)
            if rest is not None:
                await rest
        finally:
            for member in members:
                if slot.fate is Fate.CANCELLED:
                    self._inbox.cancel(member)
                else:
                    self._inbox.settle(slot.fate)

    async def _end(
        self,
        member: Any,
        error: Exception,
        attempt: int,
        began: float | None,
        judge: Callable[[ConcurrentError], Verdict],
    ) -> RetryIn | Fate:
        """Return how the member ended, or the verdict to try it again."""
        failed = self._step.describe(error, member)
        if failed.item is not untraced(member):  # one `ConcurrentError` for several members
            own = ConcurrentError(shown_error(error), item=untraced(member), phase=self._step.name)
            own.__cause__ = error
            failed = own
        failed.attempt, failed.elapsed = attempt, since(began)
        verdict = judge(failed)
        if isinstance(verdict, RetryIn):
            return verdict
        fate = await self._step.attempts.give_up(failed, verdict)
        self._step.note_end(member, fate)
        return fate


def _errors_of_members(error: Exception) -> BatchError | None:
    """Return the `BatchError`, or those of a group as one; ``None`` if there are other errors."""
    errors: dict[int, Exception] = {}
    passed_on: list[object] = []
    for leaf in leaves(error):
        if not isinstance(leaf, BatchError):
            return None
        errors |= leaf.errors
        passed_on += leaf.passed_on
    return BatchError(errors, passed_on=passed_on)


def _wait(verdict: RetryIn) -> float:
    return verdict.seconds
