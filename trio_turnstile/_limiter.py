"""`Limiter`: a `trio.CapacityLimiter` whose limit can be moved while tasks use it.

The tokens, the queue and their fairness are trio's: a `trio.CapacityLimiter` is
wrapped, and every method of it is here with the same meaning. What is added is
the limit's other side: who may move it, and when.

One writer. ``total_tokens`` of the wrapped limiter is written by the throttle
task of the turnstile that the limiter joined, from what `up`, `down`, `pause`
and `resume` post there. These may hence be called from any thread. The one
exception is the operator's own assignment to `Limiter.total_tokens`, which acts
at once and so belongs in the run: trio pops a waiter off its queue before it
finds that the calling thread cannot wake it, and that wake-up would be lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol, TypeAlias, final

import attrs
import trio
from trio.lowlevel import current_task, enable_ki_protection

from ._checks import check_seconds, check_whole
from ._errors import Saturated
from ._events import Decision, Event, LimiterClosed, Signal
from ._regulator import Regulator
from ._throttle import Throttle
from .limits import LimitPolicy

DECISIONS_KEPT = 200

Action: TypeAlias = Callable[[float], None]
"""Something for the throttle task to do, given the time on trio's clock."""


class _Home(Protocol):
    """The turnstile, as its limiters know it."""

    def _post(self, action: Action) -> None: ...

    def _tell(self, event: Event) -> None: ...

    def _forget(self, name: str) -> None: ...


@final
@attrs.frozen
class LimiterStatistics:
    """The state of a `Limiter` at one moment, for people and for tests."""

    name: str
    """The name of the limiter."""
    borrowed_tokens: int
    """How many tokens are borrowed."""
    total_tokens: float
    """The limit. Less than `borrowed_tokens` just after it was lowered."""
    borrowers: list[object]
    """The tasks or other objects that hold a token."""
    tasks_waiting: int
    """How many tasks wait for a token."""
    cap: float
    """Where signals and assignments have put the limit; a policy stays below it."""
    ceiling: float
    """The most that signals may make of it."""
    floor: int
    """The least that signals may make of it."""
    paused: bool
    """Whether admission is paused."""
    closed: bool
    """Whether the limiter is closed."""


@final
class Limiter:
    """A limit on how many may run at a time, which can move while they run.

    By itself it is static, a stand-in for ``trio.CapacityLimiter(ceiling)`` that
    has a name. In a turnstile (`open_turnstile`) it moves by signals under the
    rules of its `Throttle`, and by its policy below them::

        async with open_turnstile() as turnstile:
            api = turnstile.limiter("api", 10, throttle=Throttle(hold=5))
            async with api:
                ...

    Args:
      name: what it is called in events, logs and errors.
      ceiling: the limit to start from and the most that signals may make of it,
        in tokens: an int, or `math.inf`.
      throttle: the rules for signals.
      policy: proposes a limit below the cap; ``None`` for none.
      max_waiting: how many tasks may wait for a token; one more gets `Saturated`.
        ``None`` for any number.

    Raises:
      TypeError: for a ceiling or ``max_waiting`` of a wrong type.
      ValueError: for a negative one, or a ceiling under ``throttle.min``.
    """

    def __init__(
        self,
        name: str,
        ceiling: float,
        *,
        throttle: Throttle = Throttle(),  # noqa: B008 (frozen)
        policy: LimitPolicy | None = None,
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
        self._regulator = Regulator(name, ceiling, throttle, policy)
        self._sack = trio.CapacityLimiter(self._regulator.limit)
        self._max_waiting = max_waiting
        self._closed = False
        self._idle: trio.Event | None = None
        self._decisions: deque[Decision] = deque(maxlen=DECISIONS_KEPT)
        self._home: _Home | None = None
        self._trio_token: trio.lowlevel.TrioToken | None = None

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return (
            f"<trio_turnstile.Limiter {self.name!r}{state}, "
            f"{self.borrowed_tokens}/{self.total_tokens} "
            f"with {self._sack.statistics().tasks_waiting} waiting>"
        )

    # ---- what it is ----

    @property
    def name(self) -> str:
        """The name; a turnstile may have added a number to make it unique there."""
        return self._regulator.name

    @property
    def ceiling(self) -> float:
        """The most that signals may make of the limit, in tokens."""
        return self._regulator.ceiling

    @property
    def floor(self) -> int:
        """The least that signals may make of the limit, in tokens."""
        return self._regulator.throttle.min

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The last 200 changes and refusals, oldest first."""
        return tuple(self._decisions)

    @property
    def borrowed_tokens(self) -> int:
        """How many tokens are borrowed."""
        return self._sack.borrowed_tokens

    @property
    def available_tokens(self) -> float:
        """How many tokens are free; negative just after the limit was lowered."""
        return self._regulator.limit - self._sack.borrowed_tokens

    def statistics(self) -> LimiterStatistics:
        """Return the state of the limiter at this moment."""
        tokens = self._sack.statistics()
        return LimiterStatistics(
            name=self.name,
            borrowed_tokens=tokens.borrowed_tokens,
            total_tokens=self.total_tokens,
            borrowers=list(tokens.borrowers),
            tasks_waiting=tokens.tasks_waiting,
            cap=self._regulator.cap,
            ceiling=self.ceiling,
            floor=self.floor,
            paused=self._regulator.resume_at is not None,
            closed=self._closed,
        )

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
        """Borrow a token for ``borrower``, without blocking.

        Args:
          borrower: a task, or any hashable object that stands for one holder.

        Raises:
          trio.WouldBlock: if no token is free.
          trio.ClosedResourceError: if the limiter is closed.
          RuntimeError: if ``borrower`` holds a token already.
        """
        if self._closed:
            raise self._closed_error()
        self._sack.acquire_on_behalf_of_nowait(borrower)

    @enable_ki_protection
    async def acquire(self) -> None:
        """Borrow a token for the current task, waiting for one in turn.

        If cancelled while it waits, no token is taken.

        Raises:
          Saturated: if ``max_waiting`` tasks wait already.
          trio.ClosedResourceError: if the limiter is closed, now or meanwhile.
          RuntimeError: if the task holds a token already.
        """
        await self.acquire_on_behalf_of(current_task())

    @enable_ki_protection
    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Borrow a token for ``borrower``, waiting for one in turn.

        If cancelled while it waits, no token is taken.

        Args:
          borrower: a task, or any hashable object that stands for one holder.

        Raises:
          Saturated: if ``max_waiting`` tasks wait already.
          trio.ClosedResourceError: if the limiter is closed, now or meanwhile.
          RuntimeError: if ``borrower`` holds a token already.
        """
        if self._max_waiting is not None:
            self._shed(self._max_waiting)
        await self._acquire_in_turn(borrower)

    @enable_ki_protection
    def release(self) -> None:
        """Give back the current task's token.

        Raises:
          RuntimeError: if the task holds none.
        """
        self.release_on_behalf_of(current_task())

    @enable_ki_protection
    def release_on_behalf_of(self, borrower: object) -> None:
        """Give back the token of ``borrower``.

        Raises:
          RuntimeError: if ``borrower`` holds none.
        """
        self._sack.release_on_behalf_of(borrower)
        if self._idle is not None and not self._sack.borrowed_tokens:
            self._idle.set()
            self._idle = None

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
        self.release_on_behalf_of(current_task())

    async def wait_idle(self) -> None:
        """Wait until nobody holds a token.

        Tasks that still wait for one do not count, so ``pause()`` and then
        ``wait_idle()`` gives a quiet moment that lasts until ``resume()``.
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

        Assign to it to override every rule: the new limit holds at once, ends a
        pause, raises the ceiling if it is above it, and starts a hold. Waiting
        tasks that fit are woken in turn; if the limit is lowered, holders finish.

        Raises:
          TypeError: if assigned anything but an int or `math.inf`.
          ValueError: if assigned a negative number.
          RuntimeError: if assigned from outside the trio run that uses the limiter.
          trio.ClosedResourceError: if assigned when the limiter is closed.
        """
        return self._regulator.limit

    @total_tokens.setter
    def total_tokens(self, tokens: float) -> None:
        if self._closed:
            raise self._closed_error()
        self._check_thread("total_tokens")
        if isinstance(tokens, bool):
            raise TypeError("total_tokens must be an int or math.inf")
        self._sack.total_tokens = tokens
        now = trio.current_time() if trio.lowlevel.in_trio_run() else -math.inf
        self._record(self._regulator.assign(tokens, now))

    def up(self) -> None:
        """Ask for one step up. Never blocks; may be called from any thread.

        Raises:
          RuntimeError: if the limiter is in no turnstile.
          trio.ClosedResourceError: if the limiter is closed.
        """
        self._order(partial(self._signal, Signal.UP))

    def down(self) -> None:
        """Ask for one step down. Never blocks; may be called from any thread.

        Raises:
          RuntimeError: if the limiter is in no turnstile.
          trio.ClosedResourceError: if the limiter is closed.
        """
        self._order(partial(self._signal, Signal.DOWN))

    def pause(self, seconds: float | None = None) -> None:
        """Ask that nobody more be admitted. Never blocks; from any thread.

        Holders finish; `wait_idle` tells when they have.

        Args:
          seconds: for how long; ``None`` for until `resume`. It never shortens a
            pause that is in force already.

        Raises:
          TypeError, ValueError: if ``seconds`` is no number over 0.
          RuntimeError: if the limiter is in no turnstile.
          trio.ClosedResourceError: if the limiter is closed.
        """
        if seconds is not None:
            check_seconds("seconds", seconds, positive=True)
        self._order(partial(self._pause, seconds))

    def resume(self) -> None:
        """Ask that a pause end. Never blocks; may be called from any thread.

        Raises:
          RuntimeError: if the limiter is in no turnstile.
          trio.ClosedResourceError: if the limiter is closed.
        """
        self._order(self._resume)

    def close(self) -> None:
        """Close it: tasks that wait or come later get `trio.ClosedResourceError`.

        Holders finish. Closing it again does nothing.

        Raises:
          RuntimeError: if called from outside the trio run that uses the limiter.
        """
        if self._closed:
            return
        self._check_thread("close()")
        self._closed = True
        # trio offers no way to break its queue, so it is emptied instead: each
        # waiter gets a token, finds the limiter closed, and gives it back.
        self._sack.total_tokens = math.inf
        if self._home is not None:
            self._home._forget(self.name)
            self._home._tell(LimiterClosed(self.name, trio.current_time()))

    # ---- for the turnstile ----

    def _join(self, name: str, home: _Home) -> None:
        if self._closed:
            raise self._closed_error()
        if self._home is not None:
            raise RuntimeError(f"limiter {self.name!r} is in a turnstile already")
        self._regulator.name = name
        self._home = home
        self._trio_token = trio.lowlevel.current_trio_token()

    def _order(self, action: Action) -> None:
        if self._closed:
            raise self._closed_error()
        if self._home is None:
            raise RuntimeError(
                f"limiter {self.name!r} is in no turnstile, so nothing acts on signals: "
                "make it with turnstile.limiter(...), pass it to turnstile.add(...), "
                "or assign total_tokens"
            )
        self._home._post(action)

    def _signal(self, signal: Signal, now: float) -> None:
        self._apply(self._regulator.signal(signal, now, self.borrowed_tokens))

    def _pause(self, seconds: float | None, now: float) -> None:
        self._apply(self._regulator.pause(seconds, now))

    def _resume(self, now: float) -> None:
        self._apply(self._regulator.resume(now))

    def _tick(self, now: float) -> float:
        """Let time pass; return when to call again, on trio's clock."""
        if self._closed:
            return math.inf
        if now >= self._regulator.next_tick:
            tokens = self._sack.statistics()
            self._apply(self._regulator.tick(now, tokens.borrowed_tokens, tokens.tasks_waiting))
        return self._regulator.next_tick

    def _apply(self, decision: Decision | None) -> None:
        if decision is None or self._closed:
            return
        self._sack.total_tokens = decision.after
        self._record(decision)

    def _record(self, decision: Decision) -> None:
        self._decisions.append(decision)
        if self._home is not None:
            self._home._tell(decision)

    # ---- for stages ----

    @enable_ki_protection
    async def _acquire_in_turn(self, borrower: object) -> None:
        """Wait for a token, however many wait: a stage holds its source back instead."""
        await self._sack.acquire_on_behalf_of(borrower)
        if self._closed:
            self.release_on_behalf_of(borrower)
            raise self._closed_error()

    # ---- guards ----

    def _shed(self, max_waiting: int) -> None:
        # Nobody waits while a token is free, so the queue is counted only then.
        if self._sack.available_tokens > 0:
            return
        waiting = self._sack.statistics().tasks_waiting
        if waiting >= max_waiting:
            raise Saturated(self.name, waiting, self.total_tokens)

    def _check_thread(self, what: str) -> None:
        if self._in_its_run():
            return
        raise RuntimeError(
            f"{what} of limiter {self.name!r} was used from outside the trio run that "
            "uses the limiter, where it could not wake the waiting tasks: use "
            "up(), down() or pause(), or trio.from_thread.run_sync()"
        )

    def _in_its_run(self) -> bool:
        if not trio.lowlevel.in_trio_run():
            tokens = self._sack.statistics()
            in_use = tokens.borrowed_tokens or tokens.tasks_waiting
            return self._trio_token is None and not in_use
        return self._trio_token in (None, trio.lowlevel.current_trio_token())

    def _closed_error(self) -> trio.ClosedResourceError:
        return trio.ClosedResourceError(f"limiter {self.name!r} is closed")
