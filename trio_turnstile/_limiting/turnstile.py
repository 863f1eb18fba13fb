"""`open_turnstile`: the service that moves limiters, and what it needs for that.

A turnstile is a few tasks in a nursery of its own. The throttle task is the one
writer of its limiters' limits: it acts on what is posted, ends pauses, and lets
adaptive policies look. Anything may be posted from any thread: an append to a
deque, and a wake-up that trio makes safe to send from anywhere.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import MappingProxyType
from typing import TypeAlias, final

import trio

from trio_turnstile._errors import On
from trio_turnstile._util import check_seconds, open_background_nursery
from trio_turnstile.limits import LimitPolicy

from .actuator import Action
from .events import Event, LimiterOpened, Observer, Observers, Signal, Snapshot
from .history import History
from .limiter import Limiter
from .sampling import OVERLOAD
from .throttle import Throttle

SIGNALS_BUFFERED = 64

_LOG = logging.getLogger("trio_turnstile.turnstile")

SignalChannel: TypeAlias = trio.MemorySendChannel[tuple[str | None, Signal]]
"""Where monitors send signals: the name of a limiter, or ``None`` for all, and which."""

Watcher: TypeAlias = Callable[[SignalChannel], Awaitable[object]]
"""An async function that watches something and sends signals."""


@final
class Turnstile:
    """The limiters of one service and what moves them; made by `open_turnstile`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        signals: SignalChannel,
        sent: trio.MemoryReceiveChannel[tuple[str | None, Signal]],
        observers: Iterable[Observer],
        sample_every: float,
    ) -> None:
        self._nursery = nursery
        self._observers = Observers(observers)
        self._sample_every = sample_every
        self._history = History(sample_every)
        self._limiters: dict[str, Limiter] = {}
        self._closed = False
        self._trio_token = trio.lowlevel.current_trio_token()
        self._actions: deque[Action] = deque()
        self._news = trio.Event()
        self._signals, self._sent = signals, sent

    def __repr__(self) -> str:
        return f"<trio_turnstile.Turnstile of {', '.join(self._limiters) or 'no limiters'}>"

    @property
    def limiters(self) -> Mapping[str, Limiter]:
        """The limiters by name, closed ones left out; a live, read-only view."""
        return MappingProxyType(self._limiters)

    @property
    def signals(self) -> SignalChannel:
        """A channel for signals: send ``(name, signal)``, or ``(None, signal)`` for all."""
        return self._signals

    @property
    def history(self) -> History:
        """Samples of every limiter, and averages over windows up to two hours."""
        return self._history

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

    def add(self, limiter: Limiter) -> Limiter:
        """Let a limiter made elsewhere join this turnstile, and return it.

        Raises:
          RuntimeError: if it is in a turnstile already.
          trio.ClosedResourceError: if the limiter or the turnstile is closed.
        """
        self._check_open()
        name = self._free_name(limiter.name)
        limiter._actuator.join(name, self)
        self._limiters[name] = limiter
        self._tell(LimiterOpened(name, trio.current_time(), limiter.ceiling))
        self._wake()  # a policy may want to be heard sooner than anything else
        return limiter

    def up(self, name: str | None = None) -> None:
        """Ask one limiter, or all of them, for a step up. Never blocks; from any thread.

        Raises:
          KeyError: if no limiter has that name.
          trio.ClosedResourceError: if the turnstile was left.
        """
        self._order(name, Signal.UP)

    def down(self, name: str | None = None) -> None:
        """Ask one limiter, or all of them, for a step down. Never blocks; from any thread.

        Raises:
          KeyError: if no limiter has that name.
          trio.ClosedResourceError: if the turnstile was left.
        """
        self._order(name, Signal.DOWN)

    def watch(self, monitor: Watcher) -> None:
        """Run a monitor until the turnstile is left.

        Args:
          monitor: called with a channel of its own for ``(name or None, Signal)``.

        Error handling:
          A monitor that raises ends the turnstile, as an alarm that nobody would
          hear of any more must not fail in silence: the body is cancelled, and
          the error comes out of `open_turnstile` in an exception group.
        """
        self._check_open()
        self._nursery.start_soon(self._run_monitor, monitor, self._signals.clone())

    # ---- the tasks ----

    async def _run_throttle(self) -> None:
        while True:
            self._news = trio.Event()  # first, so that no later wake-up is missed
            now = trio.current_time()
            self._act(now)
            next_tick = min(
                (limiter._actuator.tick(now) for limiter in tuple(self._limiters.values())),
                default=float("inf"),
            )
            if self._actions:  # posted meanwhile: let others run in between
                await trio.lowlevel.checkpoint()
                continue
            with trio.move_on_at(next_tick):
                await self._news.wait()

    async def _run_sampling(self) -> None:
        at = trio.current_time()
        while True:
            at += self._sample_every
            await trio.sleep_until(at)
            for name, limiter in tuple(self._limiters.items()):
                state = limiter.statistics()
                sample = Snapshot(
                    name, at, state.total_tokens, state.borrowed_tokens, state.tasks_waiting
                )
                self._history.add(sample)
                self._tell(sample)

    async def _run_signals(self) -> None:
        async for name, signal in self._sent:
            self._actions.append(partial(self._signal, name, signal))
            self._wake()

    async def _run_monitor(self, monitor: Watcher, signals: SignalChannel) -> None:
        with signals:
            await monitor(signals)

    # ---- for limiters ----

    def _post(self, action: Action) -> None:
        """Leave something for the throttle task to do; from any thread."""
        self._check_open()
        self._actions.append(action)
        try:
            self._trio_token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:
            raise trio.ClosedResourceError("the turnstile was left") from None

    def _tell(self, event: Event) -> None:
        self._observers(event)

    def _forget(self, name: str) -> None:
        del self._limiters[name]

    # ---- inside ----

    def _order(self, name: str | None, signal: Signal) -> None:
        if name is not None and name not in self._limiters:
            raise KeyError(self._unknown(name))
        self._post(partial(self._signal, name, signal))

    def _signal(self, name: str | None, signal: Signal, now: float) -> None:
        if name is not None and name not in self._limiters:
            _LOG.warning("signal %s dropped: %s", signal.value, self._unknown(name))
            return
        for limiter in tuple(self._limiters.values()) if name is None else [self._limiters[name]]:
            limiter._actuator.signal(signal, now)

    def _act(self, now: float) -> None:
        for _ in range(len(self._actions)):
            self._actions.popleft()(now)

    def _wake(self) -> None:
        self._news.set()

    def _close(self) -> None:
        self._closed = True  # nothing more is posted; what was posted is done
        with suppress(trio.WouldBlock):
            while True:
                self._actions.append(partial(self._signal, *self._sent.receive_nowait()))
        self._act(trio.current_time())
        for limiter in tuple(self._limiters.values()):
            limiter.close()
        self._signals.close()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the turnstile was left")

    def _free_name(self, name: str) -> str:
        free, number = name, 1
        while free in self._limiters:
            number += 1
            free = f"{name}-{number}"
        return free

    def _unknown(self, name: str) -> str:
        return f"no limiter is named {name!r}; there are: {', '.join(self._limiters) or 'none'}"


@asynccontextmanager
async def open_turnstile(
    *, observers: Iterable[Observer] = (), sample_every: float = 2.0
) -> AsyncIterator[Turnstile]:
    """Open a turnstile for the length of an ``async with`` block.

    On leaving, its monitors are cancelled and its limiters closed.

    Args:
      observers: each is called with every event of the turnstile and its
        limiters; one that raises is logged and called no more.
      sample_every: seconds between two samples for the history.

    Raises:
      TypeError, ValueError: if ``sample_every`` is no number over 0.

    Error handling:
      What the body raises comes out as it is; together with the error of a
      monitor, in an exception group.
    """
    check_seconds("sample_every", sample_every, positive=True)
    signals, sent = trio.open_memory_channel[tuple[str | None, Signal]](SIGNALS_BUFFERED)
    with sent:  # until the monitors have ended: one may send as it is cancelled
        async with open_background_nursery() as nursery:
            turnstile = Turnstile(nursery, signals, sent, observers, sample_every)
            nursery.start_soon(turnstile._run_throttle)
            nursery.start_soon(turnstile._run_sampling)
            nursery.start_soon(turnstile._run_signals)
            try:
                yield turnstile
            finally:
                turnstile._close()
