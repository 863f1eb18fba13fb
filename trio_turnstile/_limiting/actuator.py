"""`LimitActuator`: who may move the limit of one limiter, and when.

One writer. ``total_tokens`` of the wrapped `trio.CapacityLimiter` is written by the
throttle task of the turnstile that the limiter joined, from what was posted there.
Posting is hence safe from any thread. The one exception is the operator's own
assignment, which acts at once and so belongs in the run: trio pops a waiter off its
queue before it finds that the calling thread cannot wake it, and that wake-up would
be lost.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, final

import trio

from .controller import LimitController
from .events import Decision, Event, LimiterClosed, Signal

DECISIONS_KEPT = 200

Action: TypeAlias = Callable[[float], None]
"""Something for the throttle task to do, given the time on trio's clock."""


class Home(Protocol):
    """The turnstile, as its limiters know it."""

    def _post(self, action: Action) -> None:
        """Leave something for the throttle task to do; from any thread."""
        ...

    def _wake(self) -> None:
        """Have the throttle task look at the policies."""
        ...

    def _tell(self, event: Event) -> None:
        """Tell the observers."""
        ...

    def _forget(self, name: str) -> None:
        """Drop the limiter of that name, which was closed."""
        ...


@final
class LimitActuator:
    """Carries out what a controller decides, and keeps a record of it."""

    def __init__(self, controller: LimitController, sack: trio.CapacityLimiter) -> None:
        self.decisions: deque[Decision] = deque(maxlen=DECISIONS_KEPT)
        self.home: Home | None = None
        self.take: Callable[[object], Awaitable[None]] = sack.acquire_on_behalf_of
        """Waits for a token; refuses once the limiter is closed, so none has to test for it."""
        self.turned_away: frozenset[object] = frozenset()
        """Those who waited for a token when the limiter was closed."""
        self._controller = controller
        self._sack = sack
        self._closed = False
        self._trio_token: trio.lowlevel.TrioToken | None = None

    # ---- for the limiter ----

    def assign(self, tokens: float) -> None:
        """Set the limit now, as the operator says; for `Limiter.total_tokens`."""
        if self._closed:
            raise self.closed_error()
        self._check_thread("total_tokens")
        if isinstance(tokens, bool):
            raise TypeError("total_tokens must be an int or math.inf")
        self._sack.total_tokens = tokens
        now = trio.current_time() if trio.lowlevel.in_trio_run() else -math.inf
        self._record(self._controller.assign(tokens, now))

    def order(self, action: Action) -> None:
        """Have the throttle task do something; from any thread."""
        if self._closed:
            raise self.closed_error()
        if self.home is None:
            raise RuntimeError(
                f"limiter {self._controller.name!r} is in no turnstile, so nothing acts on "
                "signals: make it with turnstile.limiter(...), pass it to turnstile.add(...), "
                "or assign total_tokens"
            )
        self.home._post(action)

    def hear_policy(self) -> None:
        """Have the throttle task look, if the policy proposes something new."""
        if self.home is not None and self._controller.stale:
            self.home._wake()

    def close(self) -> None:
        """Let the waiters go, and nobody move the limit any more; for `Limiter.close`."""
        if self._closed:
            return
        self._check_thread("close()")
        self._closed = True
        self.take = self._refuse
        # trio offers no way to break its queue, so it is emptied instead: each
        # waiter gets a token, finds itself turned away, and gives it back. Whoever was
        # handed a token before has it, whether or not it has run since.
        holders = self._sack.statistics().borrowers
        self._sack.total_tokens = math.inf
        self.turned_away = frozenset(self._sack.statistics().borrowers).difference(holders)
        if self.home is not None:
            self.home._forget(self._controller.name)
            self.home._tell(LimiterClosed(self._controller.name, trio.current_time()))

    def closed_error(self) -> trio.ClosedResourceError:
        """Return what to raise when the limiter is closed."""
        return trio.ClosedResourceError(f"limiter {self._controller.name!r} is closed")

    # ---- for the turnstile ----

    def join(self, name: str, home: Home) -> None:
        """Belong to a turnstile from now on, under that name."""
        if self._closed:
            raise self.closed_error()
        if self.home is not None:
            raise RuntimeError(f"limiter {self._controller.name!r} is in a turnstile already")
        self._trio_token = trio.lowlevel.current_trio_token()
        self._controller.name = name
        self.home = home

    def signal(self, signal: Signal, now: float) -> None:
        """Act on a signal."""
        self._apply(self._controller.signal(signal, now, self._sack.borrowed_tokens))

    def pause(self, seconds: float | None, now: float) -> None:
        """Admit nobody for some seconds, or until `resume`."""
        self._apply(self._controller.pause(seconds, now))

    def resume(self, now: float) -> None:
        """End a pause."""
        self._apply(self._controller.resume(now))

    def tick(self, now: float) -> float:
        """Let time pass; return when to call again, on trio's clock."""
        if self._closed:
            return math.inf
        if now >= self._controller.next_tick or self._controller.stale:
            tokens = self._sack.statistics()
            self._apply(self._controller.tick(now, tokens.borrowed_tokens, tokens.tasks_waiting))
        return self._controller.next_tick

    # ---- inside ----

    async def _refuse(self, _: object) -> None:
        await trio.lowlevel.checkpoint()
        raise self.closed_error()

    def _apply(self, decision: Decision | None) -> None:
        if decision is None or self._closed:
            return
        if decision.applied:
            self._sack.total_tokens = self._controller.limit
        self._record(decision)

    def _record(self, decision: Decision) -> None:
        self.decisions.append(decision)
        if self.home is not None:
            self.home._tell(decision)

    def _check_thread(self, what: str) -> None:
        if self._in_its_run():
            return
        raise RuntimeError(
            f"{what} of limiter {self._controller.name!r} was used from outside the trio run "
            "that uses the limiter, where it could not wake the waiting tasks: use "
            "up(), down() or pause(), or trio.from_thread.run_sync()"
        )

    def _in_its_run(self) -> bool:
        if not trio.lowlevel.in_trio_run():
            tokens = self._sack.statistics()
            in_use = tokens.borrowed_tokens or tokens.tasks_waiting
            return self._trio_token is None and not in_use
        return self._trio_token in (None, trio.lowlevel.current_trio_token())
