"""`open_turnstile`: the service that moves limiters by signals, policies and pauses.

A turnstile is a few tasks in a nursery of its own: the throttle task of its `Dispatcher`,
the sampling of its `Census`, and the watchers. Signals from all of them, and from any thread,
go one way: they are posted to the dispatcher.
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
        """What tells it from all other turnstiles: a random UUID, in hex."""
        return self._id

    @property
    def opened(self) -> Instant:
        """When it was opened, on trio's clock and as a Unix time."""
        return self._opened

    @property
    def limiters(self) -> Mapping[str, Limiter]:
        """The limiters by name, without closed ones; a live, read-only view."""
        return MappingProxyType(self._limiters)

    @property
    def runs(self) -> Mapping[str, LiveRun]:
        """The runs of phases and pipelines that go on, by name; a live, read-only view.

        A run is here if one of its steps has a limiter of this turnstile.
        """
        return self._dispatcher.runs.by_name

    @property
    def history(self) -> History:
        """Samples of every limiter, and averages over windows up to two hours."""
        return self._census.history

    def limiter(self, name: str, ceiling: float, **options: Unpack[LimiterOptions]) -> Limiter:
        """Make a limiter in this turnstile; for the arguments see `Limiter`.

        If the name is taken, a number is added: the second ``"api"`` is
        ``"api-2"``, as two requests may run the same code at once.
        """
        return self.add(Limiter(name, ceiling, **options))

    def shared(self, name: str, total: float, **options: Unpack[ShareOptions]) -> SharedLimiter:
        """Make a limiter in this turnstile whose tokens are shared by keys, such as hosts.

        For the options see `SharedLimiter` and `Limiter`.
        """
        return make_shared(self.limiter, name, total, options)

    @enable_ki_protection
    def add(self, limiter: Limiter) -> Limiter:
        """Let a limiter made elsewhere join this turnstile, and return it.

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
          trio.ClosedResourceError: if the turnstile was left.
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
          TypeError: if ``signal`` is no `Signal`.
          KeyError: if no limiter has that name.
          trio.ClosedResourceError: if the turnstile was left.
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
        """Ask something of a limiter, and return what came of it: what `signal` does not tell.

        What was asked before by `signal` and the like is done first.

        Args:
          limiter: the name of the limiter.
          action: `Signal.UP` or `Signal.DOWN`; `SetLimit`, `Release`, `Pause` or `Resume`.
          by: who asks. It stands in the decision.
          note: what they note, as the reason why. It stands in the decision.

        Raises:
          TypeError: if the action is none of these.
          KeyError: if no limiter has that name.
          RuntimeError: if awaited in another trio run.
          trio.ClosedResourceError: if the turnstile was left.

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
        """Return what `ask` would return now, and change nothing.

        Raises:
          TypeError, KeyError, trio.ClosedResourceError: as `ask` does.
        """
        return self._asked(limiter, action).foresee(action, NOBODY, trio.current_time())

    @enable_ki_protection
    def restore(self, overrides: Mapping[str, Override]) -> None:
        """Set overrides again, as they were in an earlier run; see `Ledger.keep_overrides`.

        Args:
          overrides: by the names of their limiters. A limiter that is not there gets its
            override when it joins. One whose time has come is set no more.

        Raises:
          trio.ClosedResourceError: if the turnstile was left.
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
          An `Observation`, which ends it with its ``close()`` or at the end of a ``with`` block.

        Raises:
          TypeError: if it is no function.
          trio.ClosedResourceError: if the turnstile was left.
        """
        return self._dispatcher.observe(observer)

    @enable_ki_protection
    def observe_durations(self, observer: DurationObserver) -> Observation:
        """Tell an observer how long each call of a step or phase takes, for a histogram.

        It is for the runs that begin from now on. A run that begins while there is no such
        observer pays nothing for them; each call that is measured costs about a microsecond.

        Args:
          observer: is called with the run, the name of the step or phase, the seconds, and how
            the call ended. One that raises is logged and not called again.

        Returns:
          An `Observation`, which ends it with its ``close()`` or at the end of a ``with`` block.

        Raises:
          TypeError: if it is no function.
          trio.ClosedResourceError: if the turnstile was left.
        """
        self._dispatcher.check_open()
        return self._dispatcher.runs.durations.add(observer)

    def watch(self, watcher: Watcher) -> None:
        """Run a watcher until the turnstile is left; then it is cancelled.

        Args:
          watcher: an async function. It is called with this turnstile, watches
            something, and calls `up`, `down` or `signal`.

        Raises:
          TypeError: if ``watcher`` cannot be called with a turnstile, as an alarm that is
            passed without being called: ``watch(cpu_alarm)`` for ``watch(cpu_alarm())``.
          trio.ClosedResourceError: if the turnstile was left.

        Error handling:
          If a watcher raises, the turnstile is cancelled: an alarm must not die
          unnoticed. The error comes out of `open_turnstile` in an exception group.
          So a watcher of one limiter, which may be closed before the turnstile is
          left, has to handle `KeyError`. The alarms of this package log it instead.
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
      name: its name, for people who look at several.

    Raises:
      TypeError, ValueError: if ``sample_every`` is no number over 0, or ``observers`` are
        not functions in a list or the like.

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
