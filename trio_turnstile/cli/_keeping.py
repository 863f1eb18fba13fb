"""`Keeping`: the ledger of a run, from which a later run can go on."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import final

import attrs

from trio_turnstile import Ledger, LedgerError, Turnstile, open_ledger, read_ledger

from ._arguments import UsageError


@final
@attrs.frozen(kw_only=True)
class Keeping:
    """How a run is kept in a ledger."""

    path: Path
    """The file."""
    fingerprint: Mapping[str, str]
    """The commands, by phase."""
    retry_failed: bool
    """Whether to run failed operations again."""
    accept_changes: bool
    """Whether to go on although the commands have changed."""
    fresh: bool
    """Whether to forget what the ledger knows."""


def ask_to_forget(path: Path) -> None:
    """Ask on a terminal whether to forget a ledger that knows something.

    Raises:
      UsageError: if the user says no, or if the file is not a ledger.
    """
    if not (path.exists() and os.isatty(0) and os.isatty(2)):
        return
    known = _count(path)
    if not known:
        return
    print(f"turnstile: forget {known} operations in {path}? [y/N] ", end="", file=sys.stderr)
    sys.stderr.flush()
    with open(0, closefd=False, encoding="utf-8") as terminal:
        answer = terminal.readline()
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError(f"{path} was left unchanged")


def _count(path: Path) -> int:
    try:
        with read_ledger(path) as entries:
            return sum(1 for _ in entries)
    except LedgerError as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def open_kept(keeping: Keeping | None) -> AsyncIterator[Ledger | None]:
    """Open the ledger of a run, if it has one.

    Raises:
      UsageError: if it cannot be opened.
    """
    if keeping is None:
        yield None
        return
    opening = open_ledger(
        keeping.path,
        fingerprint=keeping.fingerprint,
        accept_changes=keeping.accept_changes,
        fresh=keeping.fresh,
    )
    async with AsyncExitStack() as stack:
        try:
            ledger = await stack.enter_async_context(opening)
        except LedgerError as error:
            raise UsageError(_advice(error)) from None
        yield ledger


def _advice(error: LedgerError) -> str:
    if not error.differences:
        return str(error)
    before_and_now = [
        f"--{name}\n  was {'absent' if before is None else before}\n"
        f"  is now {'absent' if now is None else now}"
        for name, (before, now) in error.differences.items()
    ]
    return (
        "the ledger belongs to a run with other commands:\n"
        + "\n".join(before_and_now)
        + "\nGo on with --accept-changes, begin again with --fresh, or give another --ledger"
    )


async def keep_overrides(ledger: Ledger | None, turnstile: Turnstile) -> None:
    """Restore limits that were set from outside in an earlier run, and record new ones.

    Raises:
      UsageError: if the ledger cannot be read.
    """
    if ledger is None:
        return
    try:
        await ledger.keep_overrides(turnstile)
    except LedgerError as error:
        raise UsageError(str(error)) from None
