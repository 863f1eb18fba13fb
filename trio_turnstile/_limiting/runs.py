"""`Runs`: the runs that take place under the limiters of one turnstile.

The turnstile knows nothing of items. It lists the runs, and tells observers when each begins and
ends, and of each of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import final

import trio

from trio_turnstile._errors import ConcurrentError

from .live_run import ErrorNoted, LiveRun, RunClosed, RunOpened
from .names import Names
from .observers import DurationObservers, Observers


@final
class Runs:
    """The present runs of one turnstile, by name.

    Args:
      observers: are told of them.
    """

    def __init__(self, observers: Observers) -> None:
        self.durations: DurationObservers = DurationObservers()
        """Who is told how long calls take, for runs that begin from now on."""
        self._observers = observers
        self._names = Names[LiveRun]()

    @property
    def by_name(self) -> Mapping[str, LiveRun]:
        """A live, read-only view."""
        return MappingProxyType(self._names.taken)

    def first_free(self, name: str) -> str:
        """Return the name, or the name with the lowest number that is free."""
        return self._names.first_free(name)

    def open(self, run: LiveRun) -> None:
        """List a run, whose name is free."""
        self._names.add(run.name, run)
        self._observers(RunOpened(trio.current_time(), run))

    def note(self, run: LiveRun, error: ConcurrentError) -> None:
        """Tell observers of an error of a listed run."""
        self._observers(ErrorNoted(trio.current_time(), run, error))

    def close(self, run: LiveRun) -> None:
        """Remove a run, which has ended."""
        self._names.discard(run.name)
        self._observers(RunClosed(trio.current_time(), run, run.report()))
