"""`BatchStep`: hands batches to a step, and books what became of their members."""

from __future__ import annotations

from collections import deque
from typing import Any, final

from trio.lowlevel import enable_ki_protection

from trio_turnstile._engine.counts import Fate
from trio_turnstile._engine.slot import CUT_OFF, Slot
from trio_turnstile._engine.verdicts import RetryIn
from trio_turnstile._errors import ConcurrentError, describe

from .gathering import BatchError, Gathered
from .inbox import BatchInbox
from .step_run import StepRun


@final
class BatchStep:
    """Handles batches as they come. Members fail, or are tried again, one by one."""

    admit = None

    def __init__(self, step: StepRun, inbox: BatchInbox[Any]) -> None:
        self._step = step
        self._inbox = inbox

    @enable_ki_protection
    async def handle(self, batch: Gathered[Any], slot: Slot) -> None:
        """Hand the batch to the step, and what failed in it again, as the policies say."""
        left = deque(batch.items)
        attempt = 0
        try:
            while left:
                attempt += 1
                errors = await self._attempt(list(left), slot, batch.failure)
                again: RetryIn | None = None
                for index in range(len(left)):
                    verdict = await self._judge(left[0], errors.get(index), attempt)
                    member = left.popleft()
                    if isinstance(verdict, RetryIn):
                        left.append(member)
                        again = verdict if again is None else max(again, verdict, key=_seconds)
                    else:
                        self._inbox.settle(verdict)
                if again is not None:
                    await self._step.attempts.back_off(again, slot, len(left))
        finally:
            slot.release(CUT_OFF)
            slot.fate = "completed"  # of the batch: its members have fates of their own
            for member in left:
                self._inbox.settle("cancelled")
                self._step.cut_off.append(member)

    async def _attempt(
        self, members: list[Any], slot: Slot, failure: Exception | None
    ) -> dict[int, Exception]:
        """Return the errors of the members that failed, by their index."""
        everybody = range(len(members))
        if failure is not None:
            slot.release(failure)
            return dict.fromkeys(everybody, failure)
        try:
            await self._step.attempt(members, slot)
        except BatchError as error:
            slot.release(error)
            if all(index in everybody for index in error.errors):
                return error.errors
            error.add_note(f"the batch had {len(members)} members: no such index")
            return dict.fromkeys(everybody, error)
        except Exception as error:
            slot.release(error)
            return dict.fromkeys(everybody, error)
        slot.release()
        return {}

    async def _judge(self, member: Any, error: Exception | None, attempt: int) -> RetryIn | Fate:
        if error is None:
            return "completed"
        failed = describe(error, item=member, phase=self._step.name)
        if failed.item is not member:  # one `ConcurrentError` for several members
            failed = ConcurrentError(str(error), item=member, phase=self._step.name)
            failed.__cause__ = error
        failed.attempt = attempt
        attempts = self._step.attempts
        verdict = attempts.judge(failed)
        if isinstance(verdict, RetryIn):
            return verdict
        lost = await attempts.lose(failed, verdict)
        return lost.value


def _seconds(verdict: RetryIn) -> float:
    return verdict.seconds
