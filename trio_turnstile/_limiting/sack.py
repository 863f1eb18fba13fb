"""`Sack`: the tokens of one limiter, borrowed and given back.

The name is trio's: "You can think of a CapacityLimiter as a sack" of tokens. Tokens, queue and
fairness are trio's too, or a `Line`'s for callers that take several tokens at once. This module
adds what goes around them: a closed limiter turns everybody away, and a policy learns from the
calls. A token is given back whatever is wrong with the error that its call ended with, with the
policy, or with the hint of a service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import Saturated
from trio_turnstile.limits import Outcome

from .actuator import LimitActuator
from .calls import Calls
from .claims import ONE, Claim, Order
from .feedback import Feedback
from .line import Line
from .sampling import AnySampler
from .trio_runs import LastRun, check_borrowers


@final
class Sack:
    """The tokens of one limiter; a borrower is any hashable object.

    Args:
      line: the tokens.
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
        "_is_shared",
        "_run",
        "_sampler",
        "_watched",
        "admitted",
        "inner",
        "line",
        "max_waiting",
        "turned_away",
        "waiting",
    )

    def __init__(
        self,
        line: Line,
        actuator: LimitActuator,
        sampler: AnySampler | None,
        feedback: Feedback,
        calls: Calls | None,
    ) -> None:
        self.line: Line = line
        self.inner: trio.CapacityLimiter = line.inner
        self.waiting: int = 0
        """How many tasks wait for a token, or were given one and have not run since."""
        self.max_waiting: int | None = None
        """How many tasks may wait, for callers of `shed`; ``None`` for any number."""
        self.admitted: int = 0
        """How many tokens were borrowed so far."""
        self.turned_away: int = 0
        """How many callers were turned away, because too many were waiting."""
        self._actuator = actuator
        self._sampler = sampler
        self._feedback = feedback
        self._calls = calls
        self._idle: trio.Event | None = None
        self._is_shared = False
        self._watched = False
        """Whether somebody wants to know of each token that is given back."""
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
            self._sampler.start(borrower, trio.current_time(), self.line.borrowed)

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
                await self._wait(borrower, ONE)
        except RuntimeError as error:
            raise self._named(error) from None
        if borrower in self._actuator.turned_away:
            self._give_back(borrower)
            raise self._actuator.closed_error()
        self.admitted += 1
        if self._sampler is not None and self._sampler.wants():
            self._sampler.start(borrower, trio.current_time(), self.line.borrowed)

    @enable_ki_protection
    def take_nowait(self, borrower: object, claim: Claim) -> None:
        """Borrow several tokens, or one of a shared limiter; or raise `trio.WouldBlock`."""
        if self._actuator.closed:
            raise self._actuator.closed_error()
        try:
            self.line.take_nowait(borrower, claim)
        except RuntimeError as error:
            raise self._named(error) from None
        self._watched = True
        self._note_admitted(borrower)

    async def queue(self, borrower: object, claim: Claim) -> None:
        """Wait in turn for a claim that could not be met at once."""
        try:
            await self._wait(borrower, claim)
        except RuntimeError as error:
            raise self._named(error) from None
        self._note_admitted(borrower)

    def _note_admitted(self, borrower: object) -> None:
        self.admitted += 1
        if self._sampler is not None and self._sampler.wants():
            self._sampler.start(borrower, trio.current_time(), self.line.borrowed)

    @enable_ki_protection
    async def take(self, borrower: object, claim: Claim) -> None:
        """Borrow several tokens, or one of a shared limiter, waiting in turn."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.take_nowait(borrower, claim)
        except trio.WouldBlock:
            await self.queue(borrower, claim)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @enable_ki_protection
    async def wait_free(self, borrower: object) -> None:
        """Wait in turn until a token is free, without keeping it.

        The wait is not a call, so a policy must not learn from it. Returns at once when the
        limiter is closed.
        """
        if not self.line.order.size:
            await self.inner.acquire_on_behalf_of(borrower)
        else:
            self._watched = True
            try:
                await self.line.wait(borrower, ONE)
            except trio.ClosedResourceError:
                return
        self.release(borrower)

    async def _wait(self, borrower: object, claim: Claim) -> None:
        self.check_run()
        # Counted, because trio returns the length of its queue only with a copy of the borrowers.
        self.waiting += 1
        try:
            if claim is ONE and not self.line.order.size:
                await self.inner.acquire_on_behalf_of(borrower)
            else:
                self._watched = True
                await self.line.wait(borrower, claim)
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
        if wait is not None and not self.line.order.withhold(borrower, wait):
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

    def begin(self, borrower: object) -> None:
        """Say that a call begins only now: its borrower had to wait for something else."""
        if self._sampler is not None and borrower in self._sampler.calls:
            self._sampler.restart(borrower, trio.current_time())

    def share(
        self, order: Order, sampler: Callable[[AnySampler | None], AnySampler] | None
    ) -> None:
        """Let another order decide the turns; call it before anybody uses the tokens."""
        self.line.order = order
        if sampler is not None:
            self._sampler = sampler(self._sampler)
        self._watched = self._is_shared = True

    def shed(self, max_waiting: int, tokens: int) -> None:
        """Raise `Saturated` if ``max_waiting`` wait already, and fewer than ``tokens`` are free."""
        # Nobody waits while a token is free, so the queue need not be counted then.
        if self.inner.available_tokens < tokens:
            waiting = self.line.waiting
            if waiting >= max_waiting:
                self.turned_away += 1
                raise Saturated(self._actuator.name, waiting, self.line.limit)

    async def wait_idle(self) -> None:
        """Wait until nobody holds a token."""
        if not self.inner.borrowed_tokens:
            await trio.lowlevel.checkpoint()
            return
        if self._idle is None:
            self._idle = trio.Event()
            self._watched = True
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

    def _learn(self, sampler: AnySampler, borrower: object, outcome: Outcome) -> None:
        sampler.finish(borrower, trio.current_time(), outcome)
        self._actuator.wake_if_stale()

    def _give_back(self, borrower: object) -> None:
        self.inner.release_on_behalf_of(borrower)
        if self._watched:
            self._note_return(borrower)

    def _note_return(self, borrower: object) -> None:
        self.line.gave_back(borrower)
        if self._idle is not None and not self.inner.borrowed_tokens:
            self._idle.set()
            self._idle = None
        if not self._is_shared:
            self._watched = self._idle is not None or self.line.in_use

    def _named(self, error: RuntimeError) -> RuntimeError:
        return RuntimeError(
            f"{self}: {error}; if the task is a step or an operation that this limiter "
            "bounds, it holds a token already"
        )
