"""`Attempts`: tries an item until it succeeds, or the policies say otherwise.

The front end makes the first attempt, because most items need no other, and one more call for
each of them would be felt. This module does what follows an error. The token is given back before
anything else, so that neither a back-off nor the sending of a dead letter holds one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeAlias, TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import ConcurrentError, cause_of
from trio_turnstile._limiting.budget import Budget
from trio_turnstile._limiting.claims import TooWide
from trio_turnstile._limiting.either import Tokens
from trio_turnstile._limiting.rate import RateLimiter
from trio_turnstile._texts import shown_error

from .beginnings import ask_the_time, noted_beginning
from .budget import RetryBalance, RetryBudget
from .counts import Counts, Fate
from .pacing import Cost, Refuse, make_pace
from .policies import ErrorPolicy, as_policies, decide, decide_finally
from .purse import purse_of
from .run_state import RunState
from .slot import Slot
from .verdicts import Divert, RetryIn, Stop, Verdict

T = TypeVar("T")
R = TypeVar("R")

_BACKS_OFF: ContextVar[bool] = ContextVar("backs_off", default=True)


@contextmanager
def no_backoff() -> Iterator[None]:
    """Make retries follow at once, in this task and in tasks started meanwhile.

    For tests: ``with no_backoff(): await pipeline.run()``. Budgets still apply.
    """
    before = _BACKS_OFF.set(False)
    try:
        yield
    finally:
        _BACKS_OFF.reset(before)


Describe: TypeAlias = Callable[[Exception, T, Slot], ConcurrentError]
"""Makes a `ConcurrentError` from what an attempt at an item raised."""


def since(began: float | None) -> float | None:
    """Return the seconds since an attempt began, if that was noted."""
    return None if began is None else trio.current_time() - began


@final
class Attempts(Generic[T]):
    """The attempts at the items of one step.

    Args:
      policies: decide about errors.
      counts: where retries are booked; shares of failures refer to it.
      state: records errors, and stops the run when the policies say so.
      describe: adds whose error it was and where it happened.
      tokens: a new attempt needs one of them; ``None`` for nothing.
      rate: what an attempt has to wait for before that; ``None`` for nothing.
      cost: how much an item takes of the rate, if not one.
      refuse: ends an item whose cost cannot be paid; by default, the item fails.
    """

    def __init__(
        self,
        policies: ErrorPolicy | Iterable[ErrorPolicy],
        *,
        counts: Counts,
        state: RunState,
        describe: Describe[T],
        tokens: Tokens | None,
        rate: RateLimiter | Budget | None = None,
        cost: Cost | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        self._policies = as_policies(policies)
        self._tells_time = ask_the_time(self._policies)
        self._counts = counts
        self._state = state
        self._describe = describe
        self._tokens = tokens
        self.pace = make_pace(rate, cost, refuse or self._refuse)
        """What an item waits for before each attempt at it."""
        self._failures = 0
        self._balances: dict[RetryBudget, RetryBalance] = {}
        self._paid_in = 0
        """How many successes were paid into a shared budget."""

    @enable_ki_protection
    async def recover(
        self,
        item: T,
        slot: Slot,
        error: Exception,
        attempt: Callable[[T, Slot], Awaitable[R]],
    ) -> R | Fate:
        """Go on after ``error``, which the first attempt at the item raised.

        Returns:
          What a later ``attempt`` returned, or how the item ended.
        """
        failures, began = 0, self.began()
        failed: ConcurrentError | None = None
        try:
            while True:
                slot.release_after(cause_of(error))
                failures += 1
                failed = self._describe(error, item, slot)
                failed.attempt, failed.elapsed = failures, since(began)
                verdict = self.judge(failed)
                if not isinstance(verdict, RetryIn):
                    return await self.give_up(failed, verdict)
                failures -= not verdict.spends_try
                try:
                    await self.back_off(verdict, slot, item)
                except TooWide as raised:
                    error = raised
                    continue
                try:
                    return await attempt(item, slot)
                except Exception as raised:
                    error = raised
        finally:
            # The traceback of the last error holds this frame, which must not hold the error.
            del error, failed

    def began(self) -> float | None:
        """Return when the attempt that just failed began; ``None`` if no policy asks."""
        return noted_beginning() if self._tells_time else None

    async def back_off(self, verdict: RetryIn, slot: Slot, item: object, items: int = 1) -> None:
        """Wait before another attempt at one or more items, then take a token for it."""
        self._counts.retry(items)
        await trio.sleep(verdict.seconds * _BACKS_OFF.get())
        if verdict.budget is not None:
            await self._withdraw(verdict.budget)
        if self.pace is not None:
            await self.pace.again(item, slot)
        if self._tokens is not None:
            await slot.acquire(self._tokens)

    async def _withdraw(self, budget: RetryBudget) -> None:
        withdraw = self._withdraw_shared if budget.shared else self._withdraw_own
        while True:
            wait = withdraw(budget)
            if not wait:
                return
            await trio.sleep(wait)

    def _withdraw_own(self, budget: RetryBudget) -> float:
        balance = self._balances.setdefault(budget, RetryBalance(budget))
        return balance.withdraw(trio.current_time(), self._counts.fates[Fate.COMPLETED])

    def _withdraw_shared(self, budget: RetryBudget) -> float:
        completed, purse = self._counts.fates[Fate.COMPLETED], purse_of(budget)
        purse.successes += completed - self._paid_in
        self._paid_in = completed
        return purse.withdraw(trio.current_time())

    def judge(self, error: ConcurrentError) -> Verdict:
        """Return the verdict of the policies."""
        return self._judge(decide, error)

    def judge_finally(self, error: ConcurrentError) -> Verdict:
        """Return the verdict of the policies where no attempt can follow."""
        return self._judge(decide_finally, error)

    def _judge(
        self,
        rule: Callable[[Iterable[ErrorPolicy], ConcurrentError], Verdict],
        error: ConcurrentError,
    ) -> Verdict:
        try:
            return rule(self._policies, error)
        except Exception as bug:
            error.add_note(f"the error policies could not decide: {shown_error(bug)}")
            return Stop()

    def fail(self, error: ConcurrentError) -> None:
        """Carry out the verdict on an error that comes too late for another attempt."""
        self._fail(error, self.judge_finally(error))

    async def give_up(self, error: ConcurrentError, verdict: Verdict) -> Fate:
        """Carry out a verdict that ends the item, and return how the item ended."""
        if isinstance(verdict, Divert):
            sink = verdict.sink
            try:
                await (sink.send if isinstance(sink, trio.MemorySendChannel) else sink)(error)
            except Exception as lost:
                error.add_note(f"its dead letter could not be sent: {shown_error(lost)}")
                verdict = Stop()
            else:
                return Fate.DIVERTED
        self._fail(error, verdict)
        return Fate.FAILED

    async def _refuse(self, error: Exception, item: T, slot: Slot) -> bool:
        """End an item whose cost cannot be paid; another attempt would not change that."""
        slot.phase = "cost"
        slot.release_cancelled()
        failed = self._describe(error, item, slot)
        slot.fate = await self.give_up(failed, self.judge_finally(failed))
        return False

    def _fail(self, error: ConcurrentError, verdict: Verdict) -> None:
        # Counted here, because the end of an operation is booked only after its clean-up.
        self._failures += 1
        if isinstance(verdict, Stop) and self._is_due(verdict):
            if verdict.by:
                error.add_note(f"the run was stopped by {verdict.by}")
            self._state.stop(error, verdict.when)
        else:
            self._state.record(error)

    def _is_due(self, verdict: Stop) -> bool:
        fates = self._counts.fates
        succeeded = fates[Fate.COMPLETED] + fates[Fate.DISCARDED]
        return verdict.due(self._failures, self._failures + succeeded)
