"""`Limiter`: a `trio.CapacityLimiter` whose limit can be moved while tasks use it.

Tokens, queue and fairness are trio's: `Limiter` wraps a `trio.CapacityLimiter` and has all
of its methods, with the same meaning. It adds that the limit moves: a `LimitController`
computes the limit, a `LimitActuator` applies it.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import final

import trio
from trio.lowlevel import current_task, enable_ki_protection

from trio_turnstile._errors import On, Saturated
from trio_turnstile._util import check_seconds, check_whole
from trio_turnstile.limits import LimitPolicy, Outcome

from .actuator import LimitActuator
from .controller import LimitController
from .events import Decision, LimiterStatistics, Load, Signal
from .sampling import OVERLOAD, Sampler, outcome_of
from .state import statistics_of
from .throttle import Throttle


@final
class Limiter:
    """A limit on how many tasks run at a time, which can move while they run.

    By itself it is static: a ``trio.CapacityLimiter(ceiling)`` with a name. In a
    turnstile (`open_turnstile`) signals move its limit under the rules of its
    `Throttle`, and an adaptive policy moves it below that::

        async with open_turnstile() as turnstile:
            api = turnstile.limiter("api", 10, throttle=Throttle(hold=5))
            async with api:
                ...

    Args:
      name: its name in events, logs and errors.
      ceiling: the limit at the start and the most that signals may raise it to, in
        tokens: an int, or `math.inf`.
      throttle: the rules for signals.
      policy: an adaptive policy, or ``None``. It moves the limit below the cap, in a
        turnstile only.
      enforce: ``False`` for shadow mode: the moves of the policy are recorded among the
        decisions, but not made.
      overload: which errors mean that the service is overloaded: a type, a tuple of
        types, or a predicate. If such an error has a ``retry_after``, in seconds, the
        limiter admits nobody for that long.
      max_waiting: how many tasks may wait; the next one gets `Saturated` (load
        shedding). ``None`` for any number.

    Raises:
      TypeError: if the ceiling or ``max_waiting`` has a wrong type.
      ValueError: if one of them is negative, or the ceiling is under ``throttle.min``.
    """

    def __init__(
        self,
        name: str,
        ceiling: float,
        *,
        throttle: Throttle = Throttle(),  # noqa: B008 (frozen)
        policy: LimitPolicy | None = None,
        enforce: bool = True,
        overload: On = OVERLOAD,
        max_waiting: int | None = None,
    ) -> None:
        if isinstance(ceiling, int) and ceiling < 0:
            raise ValueError("total_tokens must be >= 0")  # as trio.CapacityLimiter says it
        check_whole("ceiling", ceiling, 0, infinite=True)
        if max_waiting is not None:
            check_whole("max_waiting", max_waiting, 0)
        if throttle.min > ceiling:
            raise ValueError(
                f"throttle.min must not be over the ceiling: {throttle.min} > {ceiling}; "
                f"raise the ceiling of limiter {name!r} or lower the minimum"
            )
        self._controller = LimitController(name, ceiling, throttle, policy, enforce)
        self._sampler = None if policy is None else Sampler(policy)
        self._overload = overload
        # trio's own word: "You can think of a CapacityLimiter as a sack" of tokens.
        self._sack = trio.CapacityLimiter(self._controller.limit)
        self._max_waiting = max_waiting
        self._actuator = LimitActuator(self._controller, self._sack)
        self._idle: trio.Event | None = None
        self._waiting = 0

    def __repr__(self) -> str:
        state = " closed" if self._actuator.closed else ""
        return (
            f"<trio_turnstile.Limiter {self.name!r}{state}, "
            f"{self.borrowed_tokens}/{self.total_tokens} "
            f"with {self._sack.statistics().tasks_waiting} waiting>"
        )

    # ---- what it is ----

    @property
    def name(self) -> str:
        """The name; a turnstile may have added a number to make it unique."""
        return self._controller.name

    @property
    def ceiling(self) -> float:
        """The most that signals may raise the limit to, in tokens."""
        return self._controller.ceiling

    @property
    def minimum(self) -> int:
        """The least that signals may lower the limit to, in tokens."""
        return self._controller.throttle.min

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The last 200 changes and refused changes, oldest first."""
        return tuple(self._actuator.decisions)

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are borrowed."""
        return self._sack.borrowed_tokens

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; negative just after the limit was lowered."""
        return self._controller.limit - self._sack.borrowed_tokens

    def statistics(self) -> LimiterStatistics:
        """Return the state of the limiter at this moment."""
        return statistics_of(self._controller, self._sack, self._actuator.closed)

    def load(self) -> Load:
        """Return how busy the limiter is, at a cost that does not grow with its tokens."""
        return Load(self._controller.limit, self._sack.borrowed_tokens, self._waiting)

    # ---- tokens, as trio has them ----

    @enable_ki_protection
    def acquire_nowait(self) -> None:
        """Borrow a token for the current task, without blocking.

        Raises:
          trio.WouldBlock: if no token is free.
          trio.ClosedResourceError: if the limiter is closed.
          RuntimeError: if the task holds a token already.
        """
        self.acquire_on_behalf_of_nowait(current_task())

    @enable_ki_protection
    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Borrow a token for ``borrower``, any hashable object, as `acquire_nowait` does."""
        if self._actuator.closed:
            raise self._actuator.closed_error()
        self._sack.acquire_on_behalf_of_nowait(borrower)
        if self._sampler is not None and self._sampler.wants():
            self._sampler.start(borrower, trio.current_time(), self._sack.borrowed_tokens)

    @enable_ki_protection
    async def acquire(self) -> None:
        """Borrow a token for the current task; wait in turn if none is free.

        If cancelled while it waits, it takes no token.

        Raises:
          Saturated: if ``max_waiting`` tasks are waiting already.
          trio.ClosedResourceError: if the limiter is closed, now or while the task waits.
          RuntimeError: if the task holds a token already.
        """
        await self.acquire_on_behalf_of(current_task())

    @enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Borrow a token for ``borrower``, any hashable object, as `acquire` does."""
        if self._max_waiting is not None:
            self._shed(self._max_waiting)
        await self._acquire_in_turn(borrower)

    @enable_ki_protection
    def release(self) -> None:
        """Give back the current task's token.

        Raises:
          RuntimeError: if the task holds no token.
        """
        self.release_on_behalf_of(current_task())

    @enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give back the token of ``borrower``, as `release` does for the task."""
        self._give_back(borrower)
        if self._sampler is not None and borrower in self._sampler.calls:
            self._learn(self._sampler, borrower, Outcome.SUCCESS)

    @enable_ki_protection
    async def __aenter__(self) -> None:
        await self.acquire_on_behalf_of(current_task())

    @enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_value is None:
            self.release_on_behalf_of(current_task())
        else:
            self._release_after(current_task(), exc_value)

    async def wait_idle(self) -> None:
        """Wait until nobody holds a token.

        Tasks that wait for a token do not count. So after ``pause()`` and then
        ``wait_idle()`` nothing runs until ``resume()``.
        """
        if not self._sack.borrowed_tokens:
            await trio.lowlevel.checkpoint()
            return
        if self._idle is None:
            self._idle = trio.Event()
        await self._idle.wait()

    # ---- moving the limit ----

    @property
    def total_tokens(self) -> float:
        """The limit now, in tokens: an int, or `math.inf`.

        Assign to it to override every rule. The new limit holds at once, ends a pause,
        raises the ceiling if it is above it, and starts a hold. Waiting tasks for which
        there is room are woken in turn; if the limit is lowered, holders finish.

        Raises:
          TypeError: if the new limit is not an int or `math.inf`.
          ValueError: if the new limit is negative.
          RuntimeError: if assigned from outside the trio run that uses the limiter.
          trio.ClosedResourceError: if the limiter is closed.
        """
        return self._controller.limit

    @total_tokens.setter
    def total_tokens(self, tokens: float) -> None:
        self._actuator.assign(tokens)

    def up(self) -> None:
        """Ask for one step up. Never blocks; may be called from any thread.

        Raises:
          RuntimeError: if the limiter is in no turnstile.
          trio.ClosedResourceError: if the limiter is closed.
        """
        self._actuator.post(partial(self._actuator.signal, Signal.UP))

    def down(self) -> None:
        """Ask for one step down, as `up` does for one step up."""
        self._actuator.post(partial(self._actuator.signal, Signal.DOWN))

    def pause(self, seconds: float | None = None) -> None:
        """Admit nobody for some time. Never blocks; may be called from any thread.

        Args:
          seconds: the length of the pause; ``None`` for until `resume`. It never
            shortens a pause that is in force.

        Raises:
          TypeError, ValueError: if ``seconds`` is no number over 0.
          RuntimeError: if the limiter is in no turnstile.
          trio.ClosedResourceError: if the limiter is closed.
        """
        if seconds is not None:
            check_seconds("seconds", seconds, positive=True)
        self._actuator.post(partial(self._actuator.pause, seconds))

    def resume(self) -> None:
        """End a pause. Never blocks; may be called from any thread."""
        self._actuator.post(self._actuator.resume)

    def close(self) -> None:
        """Close the limiter: waiters and newcomers get `trio.ClosedResourceError`.

        Holders finish, also those that were given a token and have not run since. Closing
        it again does nothing.

        Raises:
          RuntimeError: if called from outside the trio run that uses the limiter.
        """
        self._actuator.close()

    # ---- what a policy learns from calls ----

    def _release_after(self, borrower: object, error: BaseException) -> None:
        """Give back the token of a call that ended with ``error``."""
        outcome = outcome_of(error, self._overload)
        self._release_with(borrower, outcome)
        retry_after = getattr(error, "retry_after", None)
        if outcome is Outcome.OVERLOADED and retry_after and self._actuator.in_turnstile:
            self.pause(retry_after)

    def _release_cancelled(self, borrower: object) -> None:
        """Give back the token of a call that was cancelled: the policy learns nothing."""
        self._release_with(borrower, Outcome.IGNORED)

    def _release_with(self, borrower: object, outcome: Outcome) -> None:
        self._give_back(borrower)
        if self._sampler is not None and borrower in self._sampler.calls:
            self._learn(self._sampler, borrower, outcome)

    def _learn(self, sampler: Sampler, borrower: object, outcome: Outcome) -> None:
        sampler.finish(borrower, trio.current_time(), outcome)
        self._actuator.wake_if_stale()

    def _give_back(self, borrower: object) -> None:
        self._sack.release_on_behalf_of(borrower)
        if self._idle is not None and not self._sack.borrowed_tokens:
            self._idle.set()
            self._idle = None

    # ---- for the engine, through `tokens_of` ----

    @enable_ki_protection
    async def _acquire_in_turn(self, borrower: object) -> None:
        """Wait for a token, past ``max_waiting``: a stage holds its source back instead."""
        if self._actuator.closed:
            await trio.lowlevel.checkpoint()
            raise self._actuator.closed_error()
        if self._sack.borrowed_tokens < self._controller.limit:
            await self._sack.acquire_on_behalf_of(borrower)
        else:  # trio tells the length of its queue only together with a copy of the borrowers
            self._waiting += 1
            try:
                await self._sack.acquire_on_behalf_of(borrower)
            finally:
                self._waiting -= 1
        if borrower in self._actuator.turned_away:
            self._give_back(borrower)
            raise self._actuator.closed_error()
        if self._sampler is not None and self._sampler.wants():
            self._sampler.start(borrower, trio.current_time(), self._sack.borrowed_tokens)

    def _shed(self, max_waiting: int) -> None:
        # Nobody waits while a token is free, so the queue need not be counted then.
        if self._sack.available_tokens <= 0:
            waiting = self._sack.statistics().tasks_waiting
            if waiting >= max_waiting:
                raise Saturated(self.name, waiting, self.total_tokens)
