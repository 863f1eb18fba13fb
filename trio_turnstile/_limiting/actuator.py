"""`LimitActuator`: applies what the controller of one limiter decides.

There is one writer: the throttle task of the turnstile that the limiter joined, which runs what
was posted there, writes ``total_tokens`` of the wrapped `trio.CapacityLimiter`. So posting is safe
from any thread. Two changes take effect at once: the operator's own assignment, and a token that
is withheld, which has to leave the limit before it is given back, or the next waiter would get it.
These must be made in the trio run: trio pops a waiter off its queue before it finds that the
calling thread cannot wake it, and that wake-up would be lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from .actions import Action, carry_out
from .controller import LimitController
from .decisions import Decisions
from .dispatcher import Dispatcher, Member, Posted
from .events import Decision, LimiterClosed, Signal
from .guarded import GuardedPolicy
from .line import Line, standing
from .override import Asker, Override
from .trio_runs import LastRun


@final
class LimitActuator:
    """Applies the decisions of a controller, keeps the last of them, and closes the limiter."""

    __slots__ = (
        "_assigned_in",
        "_controller",
        "_dispatcher",
        "_line",
        "_listeners",
        "_trio_token",
        "closed",
        "decisions",
        "turned_away",
    )  # as `closed` is read for each token

    def __init__(self, controller: LimitController, line: Line) -> None:
        self.decisions: Decisions = Decisions()
        self.closed: bool = False
        self.turned_away: frozenset[object] = frozenset()
        """The borrowers that waited for a token when the limiter was closed."""
        self._controller = controller
        self._line = line
        self._dispatcher: Dispatcher | None = None
        self._trio_token: trio.lowlevel.TrioToken | None = None
        self._assigned_in = LastRun()
        self._listeners: list[Callable[[], object]] = []

    # ---- for the limiter ----

    @property
    def name(self) -> str:
        """The name of the limiter; a turnstile may have added a number."""
        return self._controller.name

    @property
    def may_join(self) -> bool:
        """Whether it is open and in no turnstile."""
        return not self.closed and self._dispatcher is None

    @property
    def dispatcher(self) -> Dispatcher | None:
        """The dispatcher of the turnstile that the limiter is in, if it is in one."""
        return None if self.closed else self._dispatcher

    def assign(self, tokens: float) -> None:
        """Set the limit now, as the operator says; for `Limiter.total_tokens`."""
        if self.closed:
            raise self.closed_error()
        self._check_thread("total_tokens")
        if isinstance(tokens, bool):
            raise TypeError("total_tokens must be an int or math.inf")
        self._move(tokens, tokens)
        now = -math.inf
        if trio.lowlevel.in_trio_run():
            self._assigned_in.has_changed(self, in_use=False)
            now = trio.current_time()
        self.note(self._controller.assign(tokens, now))

    def withhold(self, seconds: float) -> None:
        """Take one token out of use for some seconds, before a refused call gives it back."""
        if self.closed or self._dispatcher is None:
            return  # nothing would ever put it back
        self._apply(self._controller.withhold(seconds, trio.current_time()))
        self._dispatcher.wake(self)

    def heed_breaker(self, now: float) -> None:
        """Apply what the breaker allows now, before the token of a failed call is given back."""
        self._apply(self._controller.heed_breaker(now))
        self.wake()

    def wake(self) -> None:
        """Have the throttle task visit the limiter, if it is in a turnstile."""
        self.wake_with(self)

    def post(self, action: Posted) -> None:
        """Have the throttle task run ``action``; from any thread."""
        if self.closed:
            raise self.closed_error()
        if self._dispatcher is None:
            raise RuntimeError(
                f"limiter {self._controller.name!r} is in no turnstile, so nothing acts on "
                "signals: make it with turnstile.limiter(...), pass it to turnstile.add(...), "
                "or assign total_tokens"
            )
        self._dispatcher.post(action, self)

    def wake_if_stale(self) -> None:
        """Have the throttle task visit the limiter if the policy proposes something new."""
        if self._dispatcher is not None and self._controller.stale:
            self._dispatcher.wake(self)

    @enable_ki_protection
    def close(self) -> None:
        """Send the waiters away, and stop moving the limit; for `Limiter.close`."""
        if self.closed:
            return
        self._check_thread("close()")
        self.closed = True
        # trio has no way to break the queue of a limiter, so an infinite limit empties it:
        # each waiter gets a token, finds that it was turned away, and gives the token back.
        # A borrower that was given a token before keeps it, even if it has not run since.
        inner = self._line.inner
        self._line.close(self.closed_error)
        holders = inner.statistics().borrowers
        self._move(math.inf, math.inf)
        self.turned_away = frozenset(inner.statistics().borrowers).difference(holders)
        if isinstance(self._controller.policy, GuardedPolicy):
            self._controller.policy.retire()
        if self._dispatcher is not None:
            self._dispatcher.forget(self._controller.name, self)
            self._dispatcher.notify(LimiterClosed(self._controller.name, trio.current_time()))

    def closed_error(self) -> trio.ClosedResourceError:
        """Return the error to raise when the limiter is closed."""
        return trio.ClosedResourceError(f"limiter {self._controller.name!r} is closed")

    def wake_with(self, member: Member) -> None:
        """Have the throttle task visit what belongs to this limiter, if it is in a turnstile."""
        if self._dispatcher is not None:
            self._dispatcher.wake(member)

    @contextmanager
    def telling(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call ``listener`` whenever the limit has moved, while the block runs."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    # ---- for the turnstile ----

    def join(self, name: str, dispatcher: Dispatcher) -> None:
        """Join a turnstile, under that name."""
        if self.closed:
            raise self.closed_error()
        if self._dispatcher is not None:
            raise RuntimeError(f"limiter {self._controller.name!r} is in a turnstile already")
        self._trio_token = trio.lowlevel.current_trio_token()
        if self._assigned_in.has_changed(self, in_use=False):
            self._controller.forget_times()
        self._controller.name = name
        self._dispatcher = dispatcher
        # A policy may have something to do sooner than the throttle task would wake.
        dispatcher.wake(self)

    def leave(self, name: str, tokens: float) -> None:
        """Leave the turnstile, and take this name and this limit."""
        assert self._dispatcher is not None
        dispatcher, self._dispatcher, self._trio_token = self._dispatcher, None, None
        dispatcher.forget(self.name, self)
        dispatcher.notify(LimiterClosed(self.name, trio.current_time()))
        self._controller.begin_anew(name, tokens)
        self._move(tokens, tokens)

    def restore(self, override: Override, dispatcher: Dispatcher) -> None:
        """Set an override from an earlier run again, if its time is not over."""
        now = trio.current_time()
        if override.until > now:
            self._apply(self._controller.set(override, now))
            dispatcher.wake(self)

    # ---- for the throttle task ----

    def signal(self, signal: Signal, now: float) -> None:
        """Act on a signal."""
        self._apply(self._controller.signal(signal, now, self._line.borrowed))

    def ask(self, action: Action, asker: Asker, now: float) -> Decision:
        """Act on what somebody asks for, and return the decision."""
        if self.closed:
            raise self.closed_error()
        in_use = self._line.borrowed
        decision = carry_out(action, self._controller, asker, now, in_use)
        self._apply(decision)
        return decision

    def foresee(self, action: Action, asker: Asker, now: float) -> Decision:
        """Return the decision that `ask` would lead to now."""
        in_use = self._line.borrowed
        return carry_out(action, self._controller.twin(), asker, now, in_use)

    def pause(self, seconds: float | None, now: float) -> None:
        """Admit nobody for some seconds, or until `resume`."""
        self._apply(self._controller.pause(seconds, now))

    def resume(self, now: float) -> None:
        """End a pause."""
        self._apply(self._controller.resume(now))
        self._line.resume()

    def tick(self, now: float) -> float:
        """Let time pass; return when to call again, on trio's clock."""
        if self.closed:
            return math.inf
        if now >= self._controller.next_tick or self._controller.stale:
            self._apply(self._controller.tick(now, self._line.borrowed, self._line.waiting))
        return self._controller.next_tick

    # ---- inside ----

    def _move(self, tokens: float, standing: float) -> None:
        self._line.set_limit(tokens, standing)
        for tell in tuple(self._listeners):
            tell()

    def _apply(self, decision: Decision | None) -> None:
        if decision is None or self.closed:
            return
        if decision.applied:
            self._move(self._controller.limit, standing(self._controller.bounds))
        self.note(decision)

    def note(self, decision: Decision) -> None:
        """Keep a decision, and tell the observers of it."""
        self.decisions.add(decision)
        if self._dispatcher is not None:
            self._dispatcher.notify(decision)

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
            in_use = self._line.borrowed or self._line.waiting
            return self._trio_token is None and not in_use
        return self._trio_token in (None, trio.lowlevel.current_trio_token())
