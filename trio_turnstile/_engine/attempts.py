"""`Attempts`: tries an item until it succeeds, or the policies say otherwise.

The first attempt is made by the front end, as most items need no other, and a call
for each would be felt. Here is what follows an error. Before anything else is done
about it, the token is given back, so that neither a back-off nor a dead letter to
be sent holds one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Generic, TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import ConcurrentError, describe
from trio_turnstile._limiting.either import AnyLimiter
from trio_turnstile._limiting.rate import RateLimiter

from .budget import RetryBalance, RetryBudget
from .counts import Counts
from .policies import ErrorPolicy, decide
from .run_state import RunState
from .slot import Slot
from .verdicts import Divert, RetryIn, Stop, Verdict

T = TypeVar("T")
R = TypeVar("R")

_BACKS_OFF: ContextVar[bool] = ContextVar("backs_off", default=True)


@contextmanager
def no_backoff() -> Iterator[None]:
    """Let retries follow at once, in this task and those that are started meanwhile.

    For tests: ``with no_backoff(): await pipeline.run()``. Budgets still hold.
    """
    before = _BACKS_OFF.set(False)
    try:
        yield
    finally:
        _BACKS_OFF.reset(before)


def _cause_of(error: Exception) -> BaseException:
    """Return what the user's code raised."""
    return error.__cause__ or error if isinstance(error, ConcurrentError) else error


@final
class Lost(Enum):
    """What an item has become that did not succeed; the value is its fate."""

    FAILED = "failed"
    DIVERTED = "diverted"


@final
class Attempts(Generic[T]):
    """The attempts at the items of one step.

    Args:
      policies: decide about errors.
      counts: where retries are counted, and what shares of failures are of.
      state: is told of errors, and to stop when the policies say so.
      phase: what the errors say of where they happened, unless they say it.
      limiter: what a new attempt needs a token of; ``None`` for nothing.
      rate: what it has to wait for before; ``None`` for nothing.
    """

    def __init__(
        self,
        policies: Iterable[ErrorPolicy],
        *,
        counts: Counts,
        state: RunState,
        phase: str,
        limiter: AnyLimiter | None,
        rate: RateLimiter | None = None,
    ) -> None:
        self._policies = tuple(policies)
        self._counts = counts
        self._state = state
        self._phase = phase
        self._limiter = limiter
        self._rate = rate
        self._failures = 0
        self._balances: dict[RetryBudget, RetryBalance] = {}

    @enable_ki_protection
    async def recover(
        self,
        item: T,
        slot: Slot,
        error: Exception,
        attempt: Callable[[T, Slot], Awaitable[R]],
    ) -> R | Lost:
        """Go on after ``error``, which the first attempt at the item raised.

        Returns:
          What a later ``attempt`` returned, or what became of the item.
        """
        failures = 0
        while True:
            slot.release(_cause_of(error))
            failures += 1
            failed = describe(error, item=item, phase=self._phase)
            failed.attempt = failures
            verdict = self.judge(failed)
            if not isinstance(verdict, RetryIn):
                return await self.lose(failed, verdict)
            await self.back_off(verdict, slot)
            try:
                return await attempt(item, slot)
            except Exception as raised:
                error = raised

    async def back_off(self, verdict: RetryIn, slot: Slot, items: int = 1) -> None:
        """Wait before another attempt at so many items, then take a token for it."""
        self._counts.retried += items
        await trio.sleep(verdict.seconds * _BACKS_OFF.get())
        if verdict.budget is not None:
            await self._withdraw(verdict.budget)
        if self._rate is not None:
            await self._rate.acquire()
        if self._limiter is not None:
            await slot.acquire(self._limiter)

    async def _withdraw(self, budget: RetryBudget) -> None:
        balance = self._balances.setdefault(budget, RetryBalance(budget))
        while True:
            wait = balance.withdraw(trio.current_time(), self._counts.fates["completed"])
            if not wait:
                return
            await trio.sleep(wait)

    def fail(self, error: ConcurrentError) -> None:
        """Have an error judged that comes too late for another attempt."""
        self._failed(error, self.judge(error))

    def judge(self, error: ConcurrentError) -> Verdict:
        """Return the verdict of the policies."""
        try:
            return decide(self._policies, error)
        except Exception as bug:
            error.add_note(f"the error policies could not decide: {bug!r}")
            return Stop()

    async def lose(self, error: ConcurrentError, verdict: Verdict) -> Lost:
        """Carry out a verdict that gives the item up, and return what it has become."""
        if isinstance(verdict, Divert):
            try:
                await verdict.channel.send(error)
            except (trio.ClosedResourceError, trio.BrokenResourceError) as closed:
                error.add_note(f"its dead letter could not be sent: {closed!r}")
                verdict = Stop()
            else:
                return Lost.DIVERTED
        self._failed(error, verdict)
        return Lost.FAILED

    def _failed(self, error: ConcurrentError, verdict: Verdict) -> None:
        self._state.record(error)
        # Counted here, as the fate of an operation is booked only after its clean-up.
        self._failures += 1
        if isinstance(verdict, Stop):
            succeeded = self._counts.fates["completed"] + self._counts.fates["discarded"]
            if verdict.due(self._failures, self._failures + succeeded):
                self._state.stop(error, verdict.when)
