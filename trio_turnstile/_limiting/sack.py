"""`Sack`: the tokens of one limiter, borrowed and given back.

trio's own word: "You can think of a CapacityLimiter as a sack" of tokens. Tokens, queue and
fairness are trio's. Here is what comes around them: a closed limiter turns everybody away, and
a policy learns from the calls. Whatever is wrong with the error that a call ended with, with
the policy or with the hint of a service, the token is given back.
"""

from __future__ import annotations

from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import Saturated
from trio_turnstile.limits import Outcome

from .actuator import LimitActuator
from .calls import Calls
from .feedback import Feedback
from .sampling import Sampler
from .trio_runs import LastRun, check_borrowers


@final
class Sack:
    """The tokens of one limiter; a borrower is any hashable object.

    Args:
      inner: the tokens.
      actuator: knows whether the limiter is closed, and withholds tokens.
      sampler: reports calls to a policy, if there is one.
      feedback: judges the errors of calls.
      calls: tells a breaker how calls end, if there is one.
    """

    __slots__ = (
        "_actuator",
        "_calls",
        "_feedback",
        "_idle",
        "_run",
        "_sampler",
        "admitted",
        "inner",
        "turned_away",
        "waiting",
    )

    def __init__(
        self,
        inner: trio.CapacityLimiter,
        actuator: LimitActuator,
        sampler: Sampler | None,
        feedback: Feedback,
        calls: Calls | None,
    ) -> None:
        self.inner = inner
        self.waiting: int = 0
        """How many tasks wait for a token, or were given one and have not run since."""
        self.admitted: int = 0
        """How many tokens were borrowed so far."""
        self.turned_away: int = 0
        """How many callers were turned away, as too many were waiting."""
        self._actuator = actuator
        self._sampler = sampler
        self._feedback = feedback
        self._calls = calls
        self._idle: trio.Event | None = None
        self._run = LastRun()

    @enable_ki_protection
    def acquire_nowait(self, borrower: object) -> None:
        """Borrow a token, or raise `trio.WouldBlock`."""
        if self._actuator.closed:
            raise self._actuator.closed_error()
        try:
            self.inner.acquire_on_behalf_of_nowait(borrower)
        except RuntimeError as error:
            raise self._named(error) from None
        self.admitted += 1
        if self._sampler is not None and self._sampler.wants():
            self._sampler.start(borrower, trio.current_time(), self.inner.borrowed_tokens)

    @enable_ki_protection
    async def acquire(self, borrower: object) -> None:
        """Borrow a token, waiting in turn, however many wait already."""
        if self._actuator.closed:
            await trio.lowlevel.checkpoint()
            raise self._actuator.closed_error()
        try:
            if self.inner.available_tokens > 0:
                await self.inner.acquire_on_behalf_of(borrower)
            else:
                await self._wait(borrower)
        except RuntimeError as error:
            raise self._named(error) from None
        if borrower in self._actuator.turned_away:
            self._give_back(borrower)
            raise self._actuator.closed_error()
        self.admitted += 1
        if self._sampler is not None and self._sampler.wants():
            self._sampler.start(borrower, trio.current_time(), self.inner.borrowed_tokens)

    async def _wait(self, borrower: object) -> None:
        self.check_run()
        # Counted, as trio tells the length of its queue only together with a copy of the borrowers.
        self.waiting += 1
        try:
            await self.inner.acquire_on_behalf_of(borrower)
        finally:
            self.waiting -= 1

    @enable_ki_protection
    def release(self, borrower: object) -> None:
        """Give back the token of a call that succeeded."""
        self._give_back(borrower)
        if self._calls is not None:
            self._calls.succeeded(borrower)
        if self._sampler is not None and borrower in self._sampler.calls:
            self._learn(self._sampler, borrower, Outcome.SUCCESS)

    @enable_ki_protection
    def release_after(self, borrower: object, error: BaseException) -> None:
        """Give back the token of a call that ended with ``error``, or withhold it."""
        outcome, wait = self._feedback.judge(error)
        if wait is not None:
            self._actuator.withhold(wait)
        if self._calls is not None:
            self._calls.failed(borrower, error)
        self._release_with(borrower, outcome)

    @enable_ki_protection
    def release_cancelled(self, borrower: object) -> None:
        """Give back the token of a call that was cancelled: a policy learns nothing."""
        if self._calls is not None:
            self._calls.ignored(borrower)
        self._release_with(borrower, Outcome.IGNORED)

    def shed(self, max_waiting: int) -> None:
        """Raise `Saturated` if so many wait already."""
        # Nobody waits while a token is free, so the queue need not be counted then.
        if self.inner.available_tokens <= 0:
            waiting = self.inner.statistics().tasks_waiting
            if waiting >= max_waiting:
                self.turned_away += 1
                raise Saturated(self._actuator.name, waiting, self.inner.total_tokens)

    async def wait_idle(self) -> None:
        """Wait until nobody holds a token."""
        if not self.inner.borrowed_tokens:
            await trio.lowlevel.checkpoint()
            return
        if self._idle is None:
            self._idle = trio.Event()
        await self._idle.wait()

    def check_run(self) -> None:
        """Raise `RuntimeError` if tasks of another trio run, in another thread, use the tokens."""
        if self._run.has_changed(self, in_use=bool(self.inner.borrowed_tokens)):
            check_borrowers(self, self.inner.statistics().borrowers)

    def __repr__(self) -> str:
        return f"limiter {self._actuator.name!r}"

    # ---- inside ----

    def _release_with(self, borrower: object, outcome: Outcome) -> None:
        self._give_back(borrower)
        if self._sampler is not None and borrower in self._sampler.calls:
            self._learn(self._sampler, borrower, outcome)

    def _learn(self, sampler: Sampler, borrower: object, outcome: Outcome) -> None:
        sampler.finish(borrower, trio.current_time(), outcome)
        self._actuator.wake_if_stale()

    def _give_back(self, borrower: object) -> None:
        self.inner.release_on_behalf_of(borrower)
        if self._idle is not None and not self.inner.borrowed_tokens:
            self._idle.set()
            self._idle = None

    def _named(self, error: RuntimeError) -> RuntimeError:
        return RuntimeError(
            f"{self}: {error}; the task may be a step or an operation that this limiter "
            "bounds, which holds a token already"
        )
