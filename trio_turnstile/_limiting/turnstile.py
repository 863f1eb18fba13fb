"""`open_turnstile`: the service that moves limiters by signals, policies and pauses.

A turnstile is a few tasks in a nursery of its own: the throttle task of its `Dispatcher`,
the sampling of its `Census`, and the watchers. All signals, from these tasks and from any
thread, are posted to the dispatcher.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TypeAlias, Unpack, final
from uuid import uuid4

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._util import check_instance, check_seconds, open_background_nursery

from .actions import Action, check_action
from .actuator import LimitActuator
from .census import Census
from .dispatcher import Dispatcher
from .events import Decision, Signal
from .history import History
from .instant import Instant, now
from .limiter import Limiter
from .limiter_options import LimiterOptions
from .live_run import DurationObserver, LiveRun
from .observers import Observation, Observer, Observers
from .override import NOBODY, Asker, Override
from .roll import Roll
from .shared import SharedLimiter, ShareOptions, make_shared
from .watching import check_watcher

_LOG = logging.getLogger("trio_turnstile.turnstile")


@final
class Turnstile:
    """The limiters of one service and what moves them; made by `open_turnstile`."""

    def __init__(
        self,
        name: str,
        nursery: trio.Nursery,
        dispatcher: Dispatcher,
        roll: Roll,
        census: Census,
    ) -> None:
        self._name, self._id = name, uuid4().hex
        self._opened = now()
        self._nursery = nursery
        self._dispatcher = dispatcher
        self._roll = roll
        self._limiters = roll.limiters
        self._census = census

    def __repr__(self) -> str:
        return f"<trio_turnstile.Turnstile of {', '.join(self._limiters) or 'no limiters'}>"

    @property
    def name(self) -> str:
        """Its name, for people; see `open_turnstile`."""
        return self._name

    @property
    def id(self) -> str:
        """A random UUID, in hex, that identifies this turnstile."""
        return self._id

    @property
    def opened(self) -> Instant:
        """When it was opened, on trio's clock and as a Unix time."""
        return self._opened

    @property
    def limiters(self) -> Mapping[str, Limiter]:
        """The open limiters by name; a live, read-only view."""
        return MappingProxyType(self._limiters)

    @property
    def runs(self) -> Mapping[str, LiveRun]:
        """The present runs of phases and pipelines, by name; a live, read-only view.

        A run is listed if one of its steps has a limiter of this turnstile.
        """
        return self._dispatcher.runs.by_name

    @property
    def history(self) -> History:
        """Samples of every limiter, and averages over windows up to two hours."""
        return self._census.history

    def limiter(self, name: str, ceiling: float, **options: Unpack[LimiterOptions]) -> Limiter:
        """Make a limiter in this turnstile; for the arguments see `Limiter`.

        If the name is taken, a number is added: the second ``"api"`` is
        ``"api-2"``, because two requests may run the same code at once.
        """
        return self.add(Limiter(name, ceiling, **options))

    def shared(self, name: str, total: float, **options: Unpack[ShareOptions]) -> SharedLimiter:
        """Make a limiter in this turnstile whose tokens are shared by keys, such as hosts.

        For the options see `SharedLimiter` and `Limiter`.
        """
        return make_shared(self.limiter, name, total, options)

    @enable_ki_protection
    def add(self, limiter: Limiter) -> Limiter:
        """Add a limiter that was made elsewhere to this turnstile, and return it.

        Raises:
          RuntimeError: if it is in a turnstile already.
          trio.ClosedResourceError: if the limiter or the turnstile is closed.
        """
        self._dispatcher.check_open()
        self._roll.add(limiter, limiter.name, self._dispatcher)
        return limiter

    def up(self, name: str | None = None) -> None:
        """Ask for one step up. Never blocks; may be called from any thread.

        Args:
          name: the limiter to move; ``None`` for all of them.

        Raises:
          KeyError: if no limiter has that name.
          trio.ClosedResourceError: if the turnstile is closed.
        """
        self.signal(Signal.UP, name)

    def down(self, name: str | None = None) -> None:
        """Ask for one step down, as `up` does for one step up."""
        self.signal(Signal.DOWN, name)

    def signal(self, signal: Signal, name: str | None = None) -> None:
        """Ask for one step, up or down. Never blocks; may be called from any thread.

        Args:
          signal: `Signal.UP` or `Signal.DOWN`.
          name: the limiter to move; ``None`` for all of them.

        Raises:
          TypeError: if ``signal`` is not a `Signal`.
          KeyError: if no limiter has that name.
          trio.ClosedResourceError: if the turnstile is closed.
        """
        if not isinstance(signal, Signal):
            raise TypeError(f"signal must be Signal.UP or Signal.DOWN, not {signal!r}")
        if name is not None and name not in self._limiters:
            raise KeyError(self._unknown(name))
        self._post_signal(signal, name)

    @enable_ki_protection
    async def ask(
        self, limiter: str, action: Action, *, by: str | None = None, note: str | None = None
    ) -> Decision:
        """Ask a limiter for a change, and return the decision, which `signal` does not.

        Earlier requests, made with `signal` and the like, are carried out first.

        Args:
          limiter: the name of the limiter.
          action: `Signal.UP` or `Signal.DOWN`; `SetLimit`, `Release`, `Pause` or `Resume`.
          by: who asks; it is recorded in the decision.
          note: why they ask; it is recorded too.

        Raises:
          TypeError: if the action is none of these.
          KeyError: if no limiter has that name.
          RuntimeError: if awaited in another trio run.
          trio.ClosedResourceError: if the turnstile is closed.

        Cancellation:
          If cancelled, nothing was done.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        actuator = self._asked(limiter, action)
        asked = partial(actuator.ask, action, Asker(by, note))
        decision = self._dispatcher.run_now(asked, actuator)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return decision

    def preview(self, limiter: str, action: Action) -> Decision:
        """Return the decision that `ask` would return now, and change nothing.

        Raises:
          TypeError, KeyError, trio.ClosedResourceError: as `ask` does.
        """
        return self._asked(limiter, action).foresee(action, NOBODY, trio.current_time())

    @enable_ki_protection
    def restore(self, overrides: Mapping[str, Override]) -> None:
        """Set overrides again, as they were in an earlier run; see `Ledger.keep_overrides`.

        Args:
          overrides: the overrides by limiter name. A limiter that is not there yet gets its
            override when it joins. An override whose time is over is not set.

        Raises:
          trio.ClosedResourceError: if the turnstile is closed.
        """
        self._dispatcher.check_open()
        for name, override in overrides.items():
            self._roll.restore(name, override, self._dispatcher)

    @enable_ki_protection
    def observe(self, observer: Observer) -> Observation:
        """Call an observer with every event from now on.

        Args:
          observer: as for `open_turnstile`. One that raises is logged and not called again.

        Returns:
          An `Observation`: close it, or use it in a ``with`` block, to end the calls.

        Raises:
          TypeError: if the observer is not callable.
          trio.ClosedResourceError: if the turnstile is closed.
        """
        return self._dispatcher.observe(observer)

    @enable_ki_protection
    def observe_durations(self, observer: DurationObserver) -> Observation:
        """Tell an observer how long each call of a step or phase takes, for a histogram.

        This applies to runs that begin from now on. Measuring a call costs about a microsecond;
        a run that begins while there is no such observer pays nothing.

        Args:
          observer: is called with the run, the name of the step or phase, the seconds, and how
            the call ended. One that raises is logged and not called again.

        Returns:
          An `Observation`: close it, or use it in a ``with`` block, to end the calls.

        Raises:
          TypeError: if the observer is not callable.
          trio.ClosedResourceError: if the turnstile is closed.
        """
        self._dispatcher.check_open()
        return self._dispatcher.runs.durations.add(observer)

    def watch(self, watcher: Watcher) -> None:
        """Run a watcher until the turnstile is closed, which cancels it.

        Args:
          watcher: an async function. It is called with this turnstile, watches
            something, and calls `up`, `down` or `signal`.

        Raises:
          TypeError: if ``watcher`` cannot be called with a turnstile, such as an alarm that
            was not called: ``watch(cpu_alarm)`` instead of ``watch(cpu_alarm())``.
          trio.ClosedResourceError: if the turnstile is closed.

        Error handling:
          If a watcher raises, the turnstile is cancelled: an alarm must not die
          unnoticed. The error comes out of `open_turnstile` in an exception group.
          A single limiter may be closed before the turnstile is, so a watcher that
          names one has to handle `KeyError`. The alarms of this package log it instead.
        """
        self._dispatcher.check_open()
        check_watcher(watcher)
        self._nursery.start_soon(watcher, self)

    # ---- inside ----

    def _post_signal(self, signal: Signal, name: str | None) -> None:
        """Post a signal; if the limiter of that name is closed by then, log it."""
        self._dispatcher.post(partial(self._apply, signal, name))

    def _apply(self, signal: Signal, name: str | None, now: float) -> None:
        if name is not None and name not in self._limiters:
            _LOG.warning("signal %s dropped: %s", signal.value, self._unknown(name))
            return
        for limiter in tuple(self._limiters.values()) if name is None else [self._limiters[name]]:
            limiter._actuator.signal(signal, now)
            self._dispatcher.wake(limiter._actuator)

    def _asked(self, name: str, action: Action) -> LimitActuator:
        check_action(action)
        self._dispatcher.check_open()
        self._dispatcher.check_run()
        if name not in self._limiters:
            raise KeyError(self._unknown(name))
        return self._limiters[name]._actuator

    def _unknown(self, name: str) -> str:
        return f"no limiter is named {name!r}; there are: {', '.join(self._limiters) or 'none'}"


Watcher: TypeAlias = Callable[[Turnstile], Awaitable[object]]
"""An async function that watches something and sends signals to the turnstile."""


@asynccontextmanager
@enable_ki_protection
async def open_turnstile(
    *,
    observers: Iterable[Observer] = (),
    sample_every: float = 2.0,
    name: str = "turnstile",
) -> AsyncIterator[Turnstile]:
    """Open a turnstile for the length of an ``async with`` block.

    On leaving, its watchers are cancelled and its limiters closed.

    Args:
      observers: each is called with every event of the turnstile and its
        limiters; one that raises is logged and not called again.
      sample_every: seconds between two samples for the history.
      name: its name, for people who look at several turnstiles.

    Raises:
      TypeError, ValueError: if ``sample_every`` is not a number over 0, or ``observers`` is
        not an iterable of functions.

    Error handling:
      An exception of the body comes out unchanged. If a watcher raises too, both
      come out in an exception group.
    """
    check_seconds("sample_every", sample_every, positive=True)
    check_instance("name", name, str, '"crawler"')
    observed = Observers(observers)
    census = Census(sample_every)
    roll = Roll(census)
    dispatcher = Dispatcher(observed, roll)
    try:
        async with open_background_nursery() as nursery:
            turnstile = Turnstile(name, nursery, dispatcher, roll, census)
            nursery.start_soon(dispatcher.run)
            nursery.start_soon(census.run, observed)
            yield turnstile
    finally:
        # After the watchers have ended: one may still send a signal while it is cancelled.
        dispatcher.close()
        roll.close()
