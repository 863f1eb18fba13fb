"""The inputs of a run that goes on, without those that an earlier run has finished."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Self, final

from trio_turnstile import Ledger, LedgerEntry, LedgerError, Report

from ._columns import Input
from ._inputs import InputError
from ._plan import Plan
from ._shell import ShellOperation

_AT_ONCE = 1000
"""How many of the inputs left over are noted at once."""


def input_of(entry: LedgerEntry) -> Input:
    """Return the input of an operation in a ledger."""
    return Input.of_identity(entry.identity)


@final
class KeptInputs:
    """Gives each input that is not done, with its number.

    Args:
      plan: what the user asks for.
      ledger: the ledger of earlier runs, if there is one.
    """

    def __init__(self, plan: Plan, ledger: Ledger | None) -> None:
        self.skipped = 0
        """How many inputs are done according to the job log."""
        self.error: InputError | None = None
        """Why the run cannot go on from the job log."""
        self._plan = plan
        self._ledger = ledger
        self._again: set[str] = set()

    async def interrupted(self) -> Sequence[LedgerEntry]:
        """Return the operations that a kill interrupted: they come before all inputs."""
        if self._ledger is None:
            return ()
        entries = await self._ledger.interrupted()
        self._again = {entry.identity for entry in entries}
        return entries

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Input]:
        inputs = self._plan.inputs
        while True:
            given = await anext(inputs)
            if not self._is_done(inputs.taken, given):
                return inputs.taken, given

    def _is_done(self, number: int, given: Input) -> bool:
        if given.identity in self._again:
            self._again.remove(given.identity)
            return True
        resumed, work = self._plan.resumed, self._plan.commands["work"]
        if resumed is None:
            return False
        try:
            done = resumed.is_done(number, lambda: work.fill(given, number))
        except ValueError as error:
            self.error = error
            raise
        self.skipped += done
        return done

    async def leave(self, report: Report) -> None:
        """Note in the ledger the inputs that have not begun, as far as they are known."""
        if self._ledger is None:
            return
        left = [
            each.identity
            for each in report.cut_off
            if isinstance(each, ShellOperation) and not each.started
        ]
        with suppress(LedgerError, OSError, ValueError):  # the user was told
            if self._plan.inputs.total is not None:
                async for _, given in self:
                    left.append(given.identity)
                    if len(left) >= _AT_ONCE:
                        await self._ledger.leave(left)
                        left.clear()
            await self._ledger.leave(left)
