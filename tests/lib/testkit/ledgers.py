"""Operations for tests of ledgers, and copies of ledgers as a kill would leave them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trio

from testkit.phases import EachPhase
from trio_turnstile import (
    Ledger,
    LedgerEntry,
    Limiter,
    Phase,
    Report,
    open_ledger,
    read_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


class Noted(EachPhase):
    """Writes the names of its phases into a log; the tests override what they need."""

    def __init__(self, identity: str, log: list[str], *, first: Any = "prepare") -> None:
        self._identity = identity
        self.log = log
        self.first = first
        self.facts: Mapping[str, Any] | None = None

    @property
    def identity(self) -> str:
        return self._identity

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        self.facts = dict(facts)
        return self.first  # type: ignore[no-any-return]

    async def phase(self, name: str) -> None:
        self.log.append(f"{self._identity} {name}")
        await trio.lowlevel.checkpoint()


async def run(path: Path, operations: Iterable[Any], **options: Any) -> Report:
    """Run operations with the ledger at ``path``, and check the books."""
    async with open_ledger(path) as ledger:
        report = await run_phases(operations, limiter=1, ledger=ledger, **options)
    assert_conserved(report)
    return report


def copied(path: Path, to: Path) -> Path:
    """Copy a ledger that is in use, in the state in which a kill would leave it now."""
    to.parent.mkdir(exist_ok=True)
    for end in ("", "-wal"):
        source = path.with_name(path.name + end)
        if source.exists():
            shutil.copy(source, to.with_name(to.name + end))
    return to


async def on_disk(ledger: Ledger) -> None:
    """Wait until everything recorded so far is on disk."""
    await ledger.interrupted()


def entries(path: Path, run: str | None = None) -> dict[str, LedgerEntry]:
    """Read a ledger; return its entries by their identity."""
    with read_ledger(path, run=run) as all_entries:
        return {entry.identity: entry for entry in all_entries}


async def holds(limiter: Limiter) -> bool:
    """Return whether this task holds a token of the limiter."""
    try:
        async with limiter:
            return False
    except RuntimeError:  # a task cannot hold two tokens
        return True


def files(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


def content(path: Path) -> bytes:
    """Return the content of a file."""
    return path.read_bytes()
