"""`Roll`: the limiters of one turnstile, by name.

Each is sampled from the time it joins. A limiter that a run has made from a bare number joins for
as long as runs use it, and is then restored to what it was: see `adopt`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import attrs
import trio

from .census import Census
from .dispatcher import Dispatcher
from .events import LimiterOpened
from .limiter import Limiter
from .names import Names
from .override import Override


@final
@attrs.define
class _Stay:
    """The time that an adopted limiter is in the turnstile."""

    name: str
    """Its name before."""
    tokens: float
    """The number that it was made from."""
    users: int = 1
    """How many runs use it."""


@final
class Roll:
    """The limiters of one turnstile.

    Args:
      census: samples them.
    """

    def __init__(self, census: Census) -> None:
        self._census = census
        self._names = Names[Limiter]()
        self._adopted: dict[Limiter, _Stay] = {}
        self._expected: dict[str, Override] = {}

    @property
    def limiters(self) -> Mapping[str, Limiter]:
        """The limiters that are open, by name."""
        return self._names.taken

    def add(self, limiter: Limiter, name: str, dispatcher: Dispatcher) -> None:
        """Add a limiter under this name, with a number if the name is taken."""
        name = self._names.first_free(name)
        limiter._actuator.join(name, dispatcher)
        self._names.add(name, limiter)
        self._census.add(name, limiter)
        dispatcher.notify(LimiterOpened(name, trio.current_time(), limiter.ceiling))
        override = self._expected.pop(name, None)
        if override is not None:
            limiter._actuator.restore(override, dispatcher)

    def forget(self, name: str) -> None:
        """Remove a limiter that was closed; its name is free again."""
        self._adopted.pop(self.limiters[name], None)
        self._names.discard(name)
        self._census.discard(name)

    def close(self) -> None:
        """Close all limiters; adopted ones go back to their runs."""
        for limiter in tuple(self._adopted):
            self._send_back(limiter)
        for limiter in tuple(self.limiters.values()):
            limiter.close()

    # ---- overrides from before ----

    def restore(self, name: str, override: Override, dispatcher: Dispatcher) -> None:
        """Set an override of an earlier run, now or when a limiter of that name joins."""
        if name in self.limiters:
            self.limiters[name]._actuator.restore(override, dispatcher)
        else:
            self._expected[name] = override

    # ---- limiters of bare numbers ----

    def adopt(self, limiter: Limiter, name: str, dispatcher: Dispatcher) -> None:
        """Let a limiter join for as long as runs use it, if it is in no turnstile."""
        if limiter in self._adopted:
            self._adopted[limiter].users += 1
        elif limiter._actuator.may_join:
            self._adopted[limiter] = _Stay(limiter.name, limiter.total_tokens)
            self.add(limiter, name, dispatcher)

    def dismiss(self, limiter: Limiter) -> None:
        """Note that a run no longer uses an adopted limiter."""
        stay = self._adopted.get(limiter)
        if stay is None:
            return  # it is in another turnstile, or this one is closed
        stay.users -= 1
        if not stay.users:
            self._send_back(limiter)

    def _send_back(self, limiter: Limiter) -> None:
        override = limiter.override
        if override is not None:
            self._expected[limiter.name] = override
        stay = self._adopted.pop(limiter)
        limiter._actuator.leave(stay.name, stay.tokens)
