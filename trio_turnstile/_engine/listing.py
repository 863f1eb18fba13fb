"""`Listing`: lists a run in the turnstiles whose limiters it uses.

A turnstile tells its observers when each run that takes place in it begins and ends, and of each
of its errors. An observer of the turnstile needs nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, nullcontext
from typing import final
from uuid import uuid4

import trio

from trio_turnstile._errors import ConcurrentError
from trio_turnstile._limiting.either import AnyLimiter, homes_of
from trio_turnstile._limiting.limiter import Limiter
from trio_turnstile._limiting.live_run import CallOutcome, LiveRun, RunKind, RunStage
from trio_turnstile._limiting.runs import Runs
from trio_turnstile._texts import shown

from .durations import Tell
from .run_state import RunState


@final
class Listing:
    """The name and kind of a run, and the turnstiles that list it.

    Args:
      name: the name that the user gave, if any.
      kind: what is run.
      state: the state of the run.
      limiters: the limiters that bound the run.
    """

    def __init__(
        self, name: str | None, kind: RunKind, state: RunState, limiters: Iterable[AnyLimiter]
    ) -> None:
        if not isinstance(name, str | None):
            raise TypeError(f"name must be a text or None, not {shown(name)}")
        self.name: str = name or kind
        """The name; another run may have it until this one is listed."""
        self.kind: RunKind = kind
        self.id: str = uuid4().hex
        """A random UUID, in hex, that identifies the run."""
        self.started: float = trio.current_time()
        """When it was started."""
        self._state = state
        self._homes = homes_of(limiters)
        self._run: LiveRun | None = None
        self._totals: list[int | None] = []

    @property
    def stage(self) -> RunStage:
        """How far the run has come."""
        return self._state.stage

    @property
    def total(self) -> int | None:
        """How many items its sources have; ``None`` if one of them does not say."""
        known = [total for total in self._totals if total is not None]
        return sum(known) if known and len(known) == len(self._totals) else None

    def expect(self, source: object) -> None:
        """Note how many items a source of the run has, if it says so."""
        self._totals.append(length_of(source))

    def teller(self, part: str) -> Tell | None:
        """Return who is told how long the calls of a step or phase take; ``None`` for nobody."""
        told = [home.runs.durations for home in self._homes if home.runs.durations]
        if not told:
            return None

        def tell(seconds: float, outcome: CallOutcome) -> None:
            assert self._run is not None, "calls are made while the run is listed"
            for durations in told:
                durations(self._run, part, seconds, outcome)

        return tell

    @contextmanager
    def listed(self, run: LiveRun, own: Mapping[str, Limiter]) -> Iterator[None]:
        """List the run while the block runs; it has ended when the block ends.

        Args:
          run: the run.
          own: its limiters that were given as bare numbers, by the names of what they bound.
            Meanwhile they are in the first of the turnstiles.
        """
        adopting = self._homes[0].adopting(own) if self._homes else nullcontext()
        with adopting, self._told(run):
            yield

    @contextmanager
    def _told(self, run: LiveRun) -> Iterator[None]:
        lists = [home.runs for home in self._homes]
        self.name, self._run = _free_name(self.name, lists), run

        def note(error: ConcurrentError) -> None:
            for runs in lists:
                runs.note(run, error)

        self._state.on_error = note
        for runs in lists:
            runs.open(run)
        try:
            yield
        finally:
            for runs in lists:
                runs.close(run)


def length_of(source: object) -> int | None:
    """Return how many items a source has, if it knows that without working it out.

    The length of an iterable that is not a collection, such as a query, may be expensive.
    """
    if isinstance(source, Collection) or (
        isinstance(source, Sized) and isinstance(source, AsyncIterable)
    ):
        try:
            return len(source)
        except Exception:
            return None
    return None


def _free_name(name: str, lists: Sequence[Runs]) -> str:
    """Return the name, with a number added if one of the turnstiles lists a run of that name."""
    free = name
    for runs in lists:
        free = runs.first_free(free)
    return free if free == name else _free_name(free, lists)
