"""`BatchStep`: hands batches to a step, and books how their members ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, final

from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.attempts import since
from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.slot import Slot
from trio_turnstile._engine.verdicts import RetryIn, Verdict
from trio_turnstile._errors import ConcurrentError, describe

from .gathering import BatchError, Gathered
from .inbox import BatchInbox
from .step_run import StepRun


@final
class BatchStep:
    """Handles batches as they come. Members fail, or are tried again, one by one.

    It is also where the worker pool books: how a batch ended is nothing to be booked, but
    the members of a batch that was never handled are cancelled.
    """

    admit = recover = follow = leave = None

    def __init__(self, step: StepRun, inbox: BatchInbox[Any]) -> None:
        self._step = step
        self._inbox = inbox

    def settle(self, fate: Fate) -> None:
        """Nothing: the members of a batch that was handled are settled one by one."""

    def cancel(self, batch: Gathered[Any]) -> None:
        """Book the members of a batch that was never handled."""
        for member in batch.items:
            self._inbox.cancel(member)

    @enable_ki_protection
    async def handle(self, batch: Gathered[Any], slot: Slot) -> None:
        """Hand the batch to the step, and what failed in it again, as the policies say."""
        left = deque(batch.items)
        attempts, attempt = self._step.attempts, 0
        began: float | None = None
        # Another attempt would not give an item the key or weight that it lacks.
        judge = attempts.judge if batch.failure is None else attempts.judge_finally
        try:
            while left:
                attempt += 1
                errors = await self._attempt(list(left), slot, batch.failure)
                if attempt == 1 and batch.failure is None:
                    began = attempts.began()
                again: RetryIn | None = None
                for index in range(len(left)):
                    verdict = await self._end(left[0], errors.get(index), attempt, began, judge)
                    member = left.popleft()
                    if isinstance(verdict, RetryIn):
                        left.append(member)
                        again = verdict if again is None else max(again, verdict, key=_wait)
                    else:
                        self._inbox.settle(verdict)
                if again is not None:
                    await attempts.back_off(again, slot, len(left))
        finally:
            slot.release_cancelled()
            slot.fate = Fate.COMPLETED  # of the batch: its members have fates of their own
            for member in left:
                self._inbox.cancel(member)

    async def _attempt(
        self, members: list[Any], slot: Slot, failure: Exception | None
    ) -> dict[int, Exception]:
        """Return the errors of the members that failed, by their index."""
        everybody = range(len(members))
        if failure is not None:
            slot.release_after(failure)
            return dict.fromkeys(everybody, failure)
        try:
            await self._step.attempt(members, slot)
        except BatchError as error:
            slot.release_after(error)
            if all(index in everybody for index in error.errors):
                return error.errors
            error.add_note(f"the batch had {len(members)} members: no such index")
            return dict.fromkeys(everybody, error)
        except Exception as error:
            slot.release_after(error)
            return dict.fromkeys(everybody, error)
        slot.release()
        return {}

    async def _end(
        self,
        member: Any,
        error: Exception | None,
        attempt: int,
        began: float | None,
        judge: Callable[[ConcurrentError], Verdict],
    ) -> RetryIn | Fate:
        """Return how the member ended, or the verdict to try it again."""
        if error is None:
            return Fate.COMPLETED
        failed = describe(error, item=member, phase=self._step.name)
        if failed.item is not member:  # one `ConcurrentError` for several members
            failed = ConcurrentError(str(error), item=member, phase=self._step.name)
            failed.__cause__ = error
        failed.attempt, failed.elapsed = attempt, since(began)
        verdict = judge(failed)
        if isinstance(verdict, RetryIn):
            return verdict
        return await self._step.attempts.give_up(failed, verdict)


def _wait(verdict: RetryIn) -> float:
    return verdict.seconds
