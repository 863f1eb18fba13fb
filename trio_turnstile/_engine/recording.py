"""What a run needs from a ledger: where it notes what becomes of each operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Literal, Protocol, TypeAlias, final

import attrs

from trio_turnstile._errors import describe

from .counts import Fate
from .run_state import RunState

Differences: TypeAlias = Mapping[str, tuple[str | None, str | None]]
"""For each name in a fingerprint that differs, the texts before and now; ``None`` for no text."""


@final
class LedgerError(Exception):
    """A ledger cannot be opened, or can no longer be written; the message says why.

    Args:
      message: the reason.
      differences: how the fingerprint differs, if that is the reason.
    """

    def __init__(self, message: str, differences: Differences | None = None) -> None:
        super().__init__(message)
        self.differences: Differences = differences or {}


Standing: TypeAlias = Literal["new", "interrupted", "done", "doubled"]
"""How a ledger knows an operation that is about to begin.

It is ``"new"`` if it has to be done, perhaps again; ``"interrupted"`` if an earlier run began it
and was killed; ``"done"`` if there is nothing to do; and ``"doubled"`` if its identity has come
before in this run.
"""


@final
@attrs.frozen
class Beginning:
    """What a ledger knows of an operation that is about to begin."""

    standing: Standing
    number: int
    """The number of the operation in the ledger."""
    outcome: Fate | None = None
    """How it ended, if an earlier run was killed while it cleaned up."""
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    """What its phases remembered, in an earlier run that was killed."""


class Recorder(Protocol):
    """Notes what becomes of the operations of one run."""

    async def begin(
        self, identities: Sequence[str], phase: str, done: frozenset[Fate]
    ) -> list[Beginning]:
        """Look operations up, and note durably that those that have to be done begin a phase.

        An operation that has ended in one of the ways in ``done`` need not be done.

        Raises:
          LedgerError: if the ledger cannot be written.
        """
        ...

    async def is_done(self, identity: str, done: frozenset[Fate]) -> bool:
        """Return whether an operation has ended in one of the ways in ``done``.

        If this run asks for the operation again, or begins it, that is doubled.
        """
        ...

    def note(self, number: int, phase: str, attempt: int, outcome: Fate | None = None) -> None:
        """Note how far an operation has come, without waiting for the disk."""

    async def remember(self, number: int, facts: Mapping[str, str]) -> None:
        """Note facts durably, each as JSON."""

    async def forget(self, number: int) -> None:
        """Forget the facts of an operation, durably."""

    async def end(self, number: int, outcome: Fate, error: str | None) -> None:
        """Note durably how an operation ended."""

    def note_end(self, number: int, outcome: Fate, error: str | None) -> None:
        """Note how an operation ended, without waiting for the disk."""

    async def flush(self) -> None:
        """Wait until everything that was noted is on disk.

        Raises:
          LedgerError: if the ledger cannot be written.
        """


class RunLedger(Protocol):
    """Keeps what becomes of the operations of runs."""

    def recording(self) -> AbstractAsyncContextManager[Recorder]:
        """Open a recorder for one run."""
        ...


def recording(ledger: RunLedger | None) -> AbstractAsyncContextManager[Recorder | None]:
    """Open a recorder for one run, if there is a ledger.

    Raises:
      TypeError: if ``ledger`` is something else, such as the path of a ledger.
    """
    if ledger is None:
        return nullcontext()
    if not hasattr(ledger, "recording"):
        raise TypeError(
            f"ledger must be a Ledger, such as open_ledger(path) gives to its block, not {ledger!r}"
        )
    return ledger.recording()


def stop_for_ledger(state: RunState, error: LedgerError, item: object = None) -> None:
    """Stop a run soon, because its ledger cannot be written. It may be called more than once."""
    if not any(isinstance(each.__cause__, LedgerError) for each in state.fatal):
        state.stop(describe(error, item=item, phase="ledger"), "soon")
