"""`open_turnstile`: the service that moves limiters by signals, policies and pauses.

A turnstile is a few tasks in a nursery of its own: the throttle task of its `Dispatcher`,
the sampling of its `Census`, and the watchers. Signals from all of them, and from any thread,
go one way: they are posted to the dispatcher.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TypeAlias, TypedDict, Unpack, final

import trio
from trio.lowlevel import enable_ki_protection

from trio_turnstile._errors import On
from trio_turnstile._util import check_seconds, open_background_nursery
from trio_turnstile.limits import LimitPolicy

from .census import Census
from .dispatcher import Dispatcher
from .events import LimiterOpened, Observer, Signal, checked
from .history import History
from .limiter import Limiter
from .names import Names
from .sampling import OVERLOAD
from .shared import SharedLimiter
from .throttle import Throttle

_LOG = logging.getLogger("trio_turnstile.turnstile")


class LimiterOptions(TypedDict, total=False):
    """The options of a limiter, as `Turnstile.shared` passes them on."""

    throttle: Throttle
    policy: LimitPolicy | None
    enforce: bool
    overload: On
    max_waiting: int | None


@final
class Turnstile:
    """The limiters of one service and what moves them; made by `open_turnstile`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        dispatcher: Dispatcher,
        names: Names[Limiter],
        census: Census,
    ) -> None:
        self._nursery = nursery
        self._dispatcher = dispatcher
        self._names = names
        self._limiters = names.taken
        self._census = census

    def __repr__(self) -> str:
        return f"<trio_turnstile.Turnstile of {', '.join(self._limiters) or 'no limiters'}>"

    @property
    def limiters(self) -> Mapping[str, Limiter]:
        """The limiters by name, without closed ones; a live, read-only view."""
        return MappingProxyType(self._limiters)

    @property
    def history(self) -> History:
        """Samples of every limiter, and averages over windows up to two hours."""
        return self._census.history

    def limiter(
        self,
        name: str,
        ceiling: float,
        *,
        throttle: Throttle = Throttle(),  # noqa: B008 (frozen)
        policy: LimitPolicy | None = None,
        enforce: bool = True,
        overload: On = OVERLOAD,
        max_waiting: int | None = None,
    ) -> Limiter:
        """Make a limiter in this turnstile; for the arguments see `Limiter`.

        If the name is taken, a number is added: the second ``"api"`` is
        ``"api-2"``, as two requests may run the same code at once.
        """
        return self.add(
            Limiter(
                name,
                ceiling,
                throttle=throttle,
                policy=policy,
                enforce=enforce,
                overload=overload,
                max_waiting=max_waiting,
            )
        )

    def shared(
        self,
        name: str,
        total: float,
        *,
        each: int | Callable[[Hashable], float] | None = None,
        weight: Callable[[Hashable], float] | None = None,
        every: float = 0,
        ageing: float = 60.0,
        adapt: Callable[[Hashable], LimitPolicy] | None = None,
        **options: Unpack[LimiterOptions],
    ) -> SharedLimiter:
        """Make a limiter in this turnstile whose tokens are shared by keys, such as hosts.

        For the arguments see `SharedLimiter`.
        """
        limiter = self.limiter(name, total, **options)
        return SharedLimiter(
            limiter, each=each, weight=weight, every=every, ageing=ageing, adapt=adapt
        )

    @enable_ki_protection
    def add(self, limiter: Limiter) -> Limiter:
        """Let a limiter made elsewhere join this turnstile, and return it.

        Raises:
          RuntimeError: if it is in a turnstile already.
          trio.ClosedResourceError: if the limiter or the turnstile is closed.
        """
        self._dispatcher.check_open()
        name = self._names.first_free(limiter.name)
        limiter._actuator.join(name, self._dispatcher)
        self._names.add(name, limiter)
        self._census.add(name, limiter)
        self._dispatcher.notify(LimiterOpened(name, trio.current_time(), limiter.ceiling))
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

    def _unknown(self, name: str) -> str:
        return f"no limiter is named {name!r}; there are: {', '.join(self._limiters) or 'none'}"


def check_watcher(watcher: object) -> None:
    """Raise unless it can be called with a turnstile; trio sees to it that it is async."""
    what = f"a watcher is an async function of the turnstile, not {watcher!r}"
    if not callable(watcher):
        raise TypeError(what)
    try:
        signature = inspect.signature(watcher)
    except ValueError:  # some builtins tell nothing
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(f"{what}: {error}; what makes a watcher has to be called") from None


Watcher: TypeAlias = Callable[[Turnstile], Awaitable[object]]
"""An async function that watches something and sends signals to the turnstile."""


@asynccontextmanager
@enable_ki_protection
async def open_turnstile(
    *, observers: Iterable[Observer] = (), sample_every: float = 2.0
) -> AsyncIterator[Turnstile]:
    """Open a turnstile for the length of an ``async with`` block.

    On leaving, its watchers are cancelled and its limiters closed.

    Args:
      observers: each is called with every event of the turnstile and its
        limiters; one that raises is logged and not called again.
      sample_every: seconds between two samples for the history.

    Raises:
      TypeError, ValueError: if ``sample_every`` is no number over 0, or ``observers`` are
        not functions in a list or the like.

    Error handling:
      An exception of the body comes out unchanged. If a watcher raises too, both
      come out in an exception group.
    """
    check_seconds("sample_every", sample_every, positive=True)
    observers = checked(observers)
    names = Names[Limiter]()
    census = Census(sample_every)

    def forget(name: str) -> None:
        names.discard(name)
        census.discard(name)

    dispatcher = Dispatcher(observers, forget)
    try:
        async with open_background_nursery() as nursery:
            turnstile = Turnstile(nursery, dispatcher, names, census)
            nursery.start_soon(dispatcher.run)
            nursery.start_soon(census.run, dispatcher.notify if observers else None)
            yield turnstile
    finally:
        # After the watchers have ended: one may still send a signal while it is cancelled.
        dispatcher.close()
        for limiter in tuple(names.taken.values()):
            limiter.close()
