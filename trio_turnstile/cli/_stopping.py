"""How a run is stopped, and what goes on nevertheless.

A run that is told to stop is cancelled at once: what waits for an input, a token or another
attempt is given up. The commands that run are shielded from that, until the run is
cancelled in earnest. The shield is round each command. Between the commands of an attempt
nothing can be cancelled, as no other task runs there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import attrs
import trio

from trio_turnstile import ConcurrentError, ErrorPolicy, Verdict


@final
class Stopping:
    """Whether a run is being stopped, and whether what runs may finish."""

    def __init__(self) -> None:
        self.begun = False
        """Whether nothing may be started or tried again."""
        self._cancelled = False
        self._shields: set[trio.CancelScope] = set()

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Shield a command that runs, unless the run is cancelled."""
        scope = trio.CancelScope(shield=not self._cancelled)
        self._shields.add(scope)
        try:
            with scope:
                yield
        finally:
            self._shields.discard(scope)

    def begin(self) -> None:
        """Let what runs finish, and try nothing again."""
        self.begun = True

    def cancel(self) -> None:
        """Shield nothing any more."""
        self.begun = self._cancelled = True
        for scope in self._shields:
            scope.shield = False


@final
@attrs.frozen
class UnlessStopping:
    """A policy that says nothing once the run is being stopped."""

    policy: ErrorPolicy
    """What to ask until then."""
    stopping: Stopping
    """Whether the run is being stopped."""

    def decide(self, error: ConcurrentError, /) -> Verdict | None:
        """Return the verdict of the policy."""
        return None if self.stopping.begun else self.policy.decide(error)
