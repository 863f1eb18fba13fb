"""`Runs`: the runs that take place under the limiters of one turnstile.

The turnstile knows nothing of items. It lists the runs, and observers are told of their
beginning, their end and each of their errors.
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
    """The runs of one turnstile that go on, by name; it tells observers of them.

    Args:
      observers: are told.
    """

    def __init__(self, observers: Observers) -> None:
        self.durations: DurationObservers = DurationObservers()
        """Who is told how long the calls take of runs that begin."""
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
        """Tell of an error of a run that is listed."""
        self._observers(ErrorNoted(trio.current_time(), run, error))

    def close(self, run: LiveRun) -> None:
        """List a run no more, as it has ended."""
        self._names.discard(run.name)
        self._observers(RunClosed(trio.current_time(), run, run.report()))
