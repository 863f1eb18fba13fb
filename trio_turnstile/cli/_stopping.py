"""How a run is stopped, while its running commands may finish.

A run that is told to stop is cancelled at once: operations that wait for an input, a token or
another attempt are given up. Running commands are shielded from that, until the run itself is
cancelled. There is a shield around each command. Between the commands of an attempt nothing
can be cancelled, as no other task runs there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import final

import attrs
import trio

from trio_turnstile import ConcurrentError, ErrorPolicy, Verdict


@final
class Stopping:
    """Whether a run is being stopped, and whether running commands may finish."""

    def __init__(self) -> None:
        self.begun = False
        """Whether the run may start and retry nothing more."""
        self.leaving = False
        """Whether jobs on a cluster are left running."""
        self._cancelled = False
        self._commands: set[trio.CancelScope] = set()
        self._jobs: set[trio.CancelScope] = set()

    def shield(self) -> AbstractContextManager[None]:
        """Shield a running command, unless the run is cancelled."""
        return _shielded(self._commands, shield=not self._cancelled)

    def shield_job(self) -> AbstractContextManager[None]:
        """Shield the wait for a job, unless jobs are left running or the run is cancelled."""
        return _shielded(self._jobs, shield=not (self._cancelled or self.leaving))

    def begin(self) -> None:
        """Let running commands finish, and retry nothing."""
        self.begun = True

    def leave_jobs(self) -> None:
        """Stop shielding waits for jobs, as the jobs are left running."""
        self.leaving = True
        _unshield(self._jobs)

    def cancel(self) -> None:
        """Stop shielding commands and waits for jobs."""
        self.begun = self._cancelled = True
        _unshield(self._commands | self._jobs)


@contextmanager
def _shielded(scopes: set[trio.CancelScope], *, shield: bool) -> Iterator[None]:
    scope = trio.CancelScope(shield=shield)
    scopes.add(scope)
    try:
        with scope:
            yield
    finally:
        scopes.discard(scope)


def _unshield(scopes: Iterable[trio.CancelScope]) -> None:
    for scope in scopes:
        scope.shield = False


@final
@attrs.frozen
class UnlessStopping:
    """A policy that gives no verdict once the run is being stopped."""

    policy: ErrorPolicy
    """The policy to ask until then."""
    stopping: Stopping
    """Whether the run is being stopped."""

    def decide(self, error: ConcurrentError, /) -> Verdict | None:
        """Return the verdict of the policy."""
        return None if self.stopping.begun else self.policy.decide(error)
