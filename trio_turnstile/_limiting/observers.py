"""Observers: who is told of events, and how.

An observer is any callable that takes one event. It runs in the task that made the
event, so it must be quick and must not block. If an observer raises, the error is logged
and the observer is not called again: observing must never harm what is observed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, final

from .events import Event
from .live_run import CallOutcome, DurationObserver, LiveRun


class Observer(Protocol):
    """Anything that can be called with one event."""

    def __call__(self, event: Event, /) -> Any:
        """Handle ``event``, quickly and without blocking."""


def checked(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """Return the observers; raise `TypeError` unless they are an iterable of functions."""
    if not isinstance(observers, Iterable):
        raise TypeError(f"observers must be a list of functions: [{observers!r}]")
    observers = tuple(observers)
    for observer in observers:
        if not callable(observer):
            raise TypeError(f"an observer must be a function of one event, not {observer!r}")
    return observers


@final
class Observation:
    """An observer that is called until this is closed, or until it raises."""

    def __init__(self, observer: Callable[..., object], observed: dict[Observation, None]) -> None:
        self._observer = observer
        self._observed = observed
        observed[self] = None

    def __repr__(self) -> str:
        state = "" if self in self._observed else " closed"
        return f"<trio_turnstile.Observation by {self._observer!r}{state}>"

    def close(self) -> None:
        """Stop calling the observer. Closing it again does nothing."""
        self._observed.pop(self, None)

    def __enter__(self) -> Observation:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def tell(self, *arguments: object) -> None:
        """Call the observer with these arguments, unless this is closed."""
        if self not in self._observed:
            return
        try:
            self._observer(*arguments)
        except Exception:
            self.close()
            logging.getLogger("trio_turnstile.observers").exception(
                "observer %r raised on %s; it will not be called again",
                self._observer,
                ", ".join(map(repr, arguments)),
            )


@final
class Observers:
    """The observers of one turnstile: each is called with every event, until it raises."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observed: dict[Observation, None] = {}  # a set that keeps the order
        for observer in checked(observers):
            Observation(observer, self._observed)

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._observed)

    def add(self, observer: Observer) -> Observation:
        """Call an observer with every event from now on."""
        return Observation(checked([observer])[0], self._observed)

    def __call__(self, event: Event, /) -> None:
        """Call every observer with ``event``."""
        for observation in tuple(self._observed):
            observation.tell(event)


@final
class DurationObservers:
    """The observers that are told how long calls take."""

    def __init__(self) -> None:
        self._observed: dict[Observation, None] = {}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._observed)

    def add(self, observer: DurationObserver) -> Observation:
        """Call an observer with every duration from now on."""
        if not callable(observer):
            raise TypeError(f"an observer of durations must be a function, not {observer!r}")
        return Observation(observer, self._observed)

    def __call__(self, run: LiveRun, part: str, seconds: float, outcome: CallOutcome, /) -> None:
        """Call every observer."""
        for observation in tuple(self._observed):
            observation.tell(run, part, seconds, outcome)
