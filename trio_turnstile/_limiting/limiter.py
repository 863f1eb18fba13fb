"""`Limiter`: a `trio.CapacityLimiter` whose limit can be moved while tasks use it.

Tokens, queue and fairness are trio's: `Limiter` wraps a `trio.CapacityLimiter` and has all
of its methods, with the same meaning (see `Sack`). It adds that the limit moves: a
`LimitController` computes the limit, a `LimitActuator` applies it.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import final

import trio
from trio.lowlevel import current_task, enable_ki_protection

from trio_turnstile._errors import On
from trio_turnstile._util import check_instance, check_seconds, check_whole
from trio_turnstile.limits import LimitPolicy

from .actuator import LimitActuator
from .breaking import CallBound
from .calls import Calls
from .claims import Claim
from .controller import LimitController
from .events import Decision, LimiterStatistics, Load, Signal, Totals
from .feedback import Feedback
from .guarded import GuardedPolicy
from .line import Line
from .override import Override
from .portion import Portion
from .sack import Sack
from .sampling import OVERLOAD, Sampler
from .state import statistics_of
from .throttle import Throttle


@final
class Limiter:
    """A limit on how many tasks run at once, which can move while they run.

    On its own it is static: a ``trio.CapacityLimiter(ceiling)`` with a name. In a
    turnstile (`open_turnstile`), signals move its limit under the rules of its
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
      enforce: ``False`` for shadow mode: the policy's moves are recorded as decisions,
        but not made.
      overload: which errors mean that the service is overloaded: a class, a tuple or
        union of classes, or a predicate. In a turnstile, if such an error has a
        ``retry_after``, in seconds, the token of its call is withheld for that long, but
        for at most ``throttle.max_pause`` seconds.
      breaker: stops calls in an outage, as a `Breaker` does. It acts only in a turnstile,
        because nothing else would let calls begin again.
      max_waiting: how many tasks may wait; the next one gets `Saturated` (load
        shedding). ``None`` for any number. It may be changed at any time.

    Raises:
      TypeError: for an argument of a wrong type.
      ValueError: if the ceiling or ``max_waiting`` is negative, the ceiling is below
        ``throttle.min``, or the policy belongs to another limiter.
    """

    __slots__ = ("__weakref__", "_actuator", "_controller", "_line", "_sack")

    def __init__(
        self,
        name: str,
        ceiling: float,
        *,
        throttle: Throttle = Throttle(),  # noqa: B008 (frozen)
        policy: LimitPolicy | None = None,
        enforce: bool = True,
        overload: On = OVERLOAD,
        breaker: CallBound | None = None,
        max_waiting: int | None = None,
    ) -> None:
        if isinstance(ceiling, int) and ceiling < 0:
            raise ValueError("total_tokens must be >= 0")  # as trio.CapacityLimiter says it
        check_whole("ceiling", ceiling, 0, infinite=True)
        guarded = None if policy is None else GuardedPolicy(policy, name)
        self._controller = LimitController(
            name, ceiling, Throttle(min=0), guarded, enforce, breaker
        )
        self.throttle = throttle
        inner = trio.CapacityLimiter(self._controller.limit)
        self._line = Line(inner, self._controller)
        self._actuator = LimitActuator(self._controller, self._line)
        sampler = None if guarded is None else Sampler(guarded)
        calls = None if breaker is None else Calls(breaker, inner, self._actuator)
        self._sack = Sack(self._line, self._actuator, sampler, Feedback(name, overload), calls)
        self.max_waiting = max_waiting

    def __repr__(self) -> str:
        state = " closed" if self._actuator.closed else ""
        held = f"{self.borrowed_tokens}/{self.total_tokens} with {self._line.waiting} waiting"
        return f"<trio_turnstile.Limiter {self.name!r}{state}, {held}>"

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
    def throttle(self) -> Throttle:
        """The rules for signals. Assign to change them; they hold from the next signal on."""
        return self._controller.throttle

    @throttle.setter
    def throttle(self, throttle: Throttle) -> None:
        check_instance("throttle", throttle, Throttle, "Throttle(hold=5)")
        if throttle.min > self.ceiling:
            raise ValueError(
                f"throttle.min must not be above the ceiling: {throttle.min} > {self.ceiling}; "
                f"raise the ceiling of limiter {self.name!r} or lower the minimum"
            )
        self._controller.throttle = throttle

    @property
    def max_waiting(self) -> int | None:
        """How many tasks may wait; ``None`` for any number. Assign to change it."""
        return self._sack.max_waiting

    @max_waiting.setter
    def max_waiting(self, max_waiting: int | None) -> None:
        if max_waiting is not None:
            check_whole("max_waiting", max_waiting, 0)
        self._sack.max_waiting = max_waiting

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The last 200 changes and 200 refusals, oldest first; a repeated refusal counts once."""
        return self._actuator.decisions.all()

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are borrowed."""
        return self._line.borrowed

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; negative just after the limit was lowered."""
        return self._controller.limit - self._line.borrowed

    def statistics(self) -> LimiterStatistics:
        """Return the state of the limiter at this moment."""
        return statistics_of(self._controller, self._line, self._actuator.closed)

    def load(self) -> Load:
        """Return how busy the limiter is, at a cost that does not grow with its tokens."""
        return Load(self._controller.limit, self._line.borrowed, self._sack.waiting)

    @property
    def override(self) -> Override | None:
        """The override that somebody has set with `Turnstile.ask`; ``None`` if there is none."""
        return self._controller.override

    @property
    def paused_until(self) -> float | None:
        """When the pause ends, on trio's clock; infinity until resumed; ``None`` if not paused."""
        return self._controller.resume_at

    @property
    def hold_left(self) -> float:
        """How many seconds of the hold are left, in which signals are refused; 0 without one."""
        return self._controller.hold_left(trio.current_time())

    @property
    def proposal(self) -> float | None:
        """The limit that the policy proposes, in tokens, enforced or not; ``None`` without one."""
        return self._controller.proposal

    def totals(self) -> Totals:
        """Return what the limiter has done since it was made, in numbers that only grow."""
        decisions = dict(self._actuator.decisions.totals)
        return Totals(self._sack.admitted, self._sack.turned_away, decisions)

    # ---- tokens, as trio has them ----

    @enable_ki_protection
    def acquire_nowait(self) -> None:
        """Borrow a token for the current task, without blocking.

        Raises:
          trio.WouldBlock: if no token is free.
          trio.ClosedResourceError: if the limiter is closed.
          RuntimeError: if the task holds a token already.
        """
        self._sack.acquire_nowait(current_task())

    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Borrow a token for ``borrower``, any hashable object, as `acquire_nowait` does."""
        self._sack.acquire_nowait(borrower)

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
        if self._sack.max_waiting is not None:
            self._sack.shed(self._sack.max_waiting, 1)
        await self._sack.acquire(borrower)

    @enable_ki_protection
    def release(self) -> None:
        """Give back the current task's token.

        Raises:
          RuntimeError: if the task holds no token.
        """
        self._sack.release(current_task())

    @enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give back the token of ``borrower``, as `release` does for the task."""
        self._sack.release(borrower)

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
            self._sack.release(current_task())
        else:
            self._sack.release_after(current_task(), exc_value)

    def tokens(self, number: int) -> Portion:
        """Return a way to take several tokens at once: ``async with limiter.tokens(4)``.

        They are taken together and in turn: nobody who comes later goes first.
        """
        check_whole("number", number, 1)
        return Portion(self._sack, Claim(number))

    async def wait_idle(self) -> None:
        """Wait until nobody holds a token.

        Tasks that wait for a token do not count. So after ``pause()`` and then
        ``wait_idle()``, nothing runs until ``resume()``.
        """
        await self._sack.wait_idle()

    # ---- moving the limit ----

    @property
    def total_tokens(self) -> float:
        """The limit now, in tokens: an int, or `math.inf`.

        Assign to it to override every rule. The new limit takes effect at once, ends a
        pause, raises a ceiling that is lower, and starts a hold. Waiting tasks are woken
        in turn while there is room. If the limit is lowered, nobody loses a token.

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
          seconds: the length of the pause; ``None`` for a pause until `resume`. It never
            shortens a pause that is in force.

        Raises:
          TypeError, ValueError: if ``seconds`` is not a number over 0.
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

        Tasks that hold a token finish, including those that were given one but have not
        run since. Closing it again does nothing.

        Raises:
          RuntimeError: if called from outside the trio run that uses the limiter.
        """
        self._actuator.close()
