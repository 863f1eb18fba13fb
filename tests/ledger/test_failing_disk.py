"""A ledger that can no longer be written gives one clear error, and nothing is torn."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from testkit.ledgers import Noted, content, entries, on_disk, run
from trio_turnstile import (
    Aborted,
    Channels,
    ConcurrentError,
    LedgerError,
    Report,
    Retry,
    Skip,
    open_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved, no_backoff


async def stopped(path: Path, operations: list[Any], **options: Any) -> Report:
    """Run operations until the ledger cannot be written; assert that one error reports this."""
    async with open_ledger(path) as ledger:
        with pytest.raises(Aborted) as caught:
            await run_phases(operations, limiter=1, ledger=ledger, **options)
        with pytest.raises(LedgerError):
            await ledger.interrupted()
    report = caught.value.report
    assert isinstance(report, Report)
    assert_conserved(report)
    errors = caught.value.exceptions
    lost = [each for each in errors if isinstance(each, ConcurrentError) and each.phase == "ledger"]
    assert len(lost) == 1
    assert f"the ledger {path} cannot be written any more" in str(lost[0])
    return report


def output_of(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class RemovesIt(Noted):
    """An operation that removes the ledger while the second operation works."""

    path = Path()

    async def phase(self, name: str) -> None:
        await super().phase(name)
        if (self.identity, name) == ("b", "work"):
            self.path.unlink()


async def test_the_file_is_removed(tmp_path: Path) -> None:
    """If the file is removed, running operations finish and are cleaned up, and no more begin."""

    class Removes(RemovesIt):
        path = tmp_path / "run.db"

    log: list[str] = []
    report = await stopped(tmp_path / "run.db", [Removes(name, log) for name in "abcd"])
    assert report.completed == 2
    assert report.cancelled <= 1  # another may have been received before the thread noticed
    assert log[-1] == "b cleanup"
    assert not (tmp_path / "run.db").exists()


async def test_another_file_takes_its_place(tmp_path: Path) -> None:
    """If the file is replaced, the run stops, and the other file is left as it is."""
    other = tmp_path / "other"
    other.write_text("notes")

    class Replaces(Noted):
        async def work(self, channels: Channels) -> None:
            other.replace(tmp_path / "run.db")

    report = await stopped(tmp_path / "run.db", [Replaces("a", [])])
    assert report.completed == 1
    assert content(tmp_path / "run.db") == b"notes"


async def test_remembering_fails(tmp_path: Path) -> None:
    """If a fact cannot be noted, its phase gets the error, so that it can undo its work."""
    caught: list[Exception] = []

    class Remembers(Noted):
        async def work(self, channels: Channels) -> None:
            (tmp_path / "run.db").unlink()
            try:
                await channels.remember(job="1")
            except LedgerError as error:
                caught.append(error)
                raise

    with no_backoff():
        report = await stopped(
            tmp_path / "run.db",
            [Remembers("a", []), Noted("b", [])],
            on_error=[Retry(2, on=OSError), Skip()],
        )
    assert report.completed == 0
    assert len(caught) == 1
    assert isinstance(caught[0].__cause__, OSError)


async def test_another_process_holds_the_database(tmp_path: Path) -> None:
    """If another program locks the database itself, the ledger waits for a while."""
    path = tmp_path / "run.db"

    class Locks(Noted):
        async def work(self, channels: Channels) -> None:
            await on_disk(ledger)
            connection.execute("BEGIN IMMEDIATE")

    async with open_ledger(path) as ledger:
        ledger._store.connection.execute("PRAGMA busy_timeout = 1")
        with (
            closing(sqlite3.connect(path, isolation_level=None)) as connection,
            pytest.raises(Aborted) as caught,
        ):
            await run_phases([Locks("a", [])], limiter=1, ledger=ledger)
    assert "database is locked" in str(caught.value.exceptions[0])


async def test_the_database_is_full(tmp_path: Path) -> None:
    """A commit that fails is undone as a whole, and what was noted before stays."""
    path = tmp_path / "run.db"
    names = [500 * f"{number:02}" for number in range(50)]
    async with open_ledger(path) as ledger:
        ledger._store.connection.execute("PRAGMA max_page_count = 20")
        with pytest.raises(Aborted) as caught:
            await run_phases([Noted(name, []) for name in names], limiter=2, ledger=ledger)
    assert "database or disk is full" in str(caught.value.exceptions[0])
    report = await run(path, [Noted(name, []) for name in names])
    assert (report.received, report.failed) == (50, 0)
    assert report.skipped > 0


FULL = """
import json, resource, signal, sys, trio
from pathlib import Path
from trio_turnstile import Aborted, Scalable, open_ledger, run_phases

class Works(Scalable):
    def __init__(self, number):
        self.identity = str(number) + 200 * "x"

    async def work(self, channels):
        begun.append(self.identity)
        await trio.lowlevel.checkpoint()

    async def cleanup(self, channels):
        cleaned.append(self.identity)

Scalable.identity = None
begun, cleaned = [], []

async def main():
    async with open_ledger(sys.argv[1]) as ledger:
        size = int(sys.argv[2])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        try:
            await run_phases(map(Works, range(10_000)), limiter=4, ledger=ledger)
        except Aborted as aborted:
            report = aborted.report
            errors = [str(error) for error in aborted.exceptions]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print(json.dumps([errors, report.completed, len(begun), len(cleaned)]))

trio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="bounds the size of files")
@pytest.mark.parametrize("size", [60_000, 300_000, 2_000_000])
async def test_the_disk_is_full(size: int, tmp_path: Path) -> None:
    """On a full disk the run stops with one error, and the ledger has all that was noted."""
    path = tmp_path / "run.db"
    command = [sys.executable, "-c", FULL, str(path), str(size)]
    (error,), completed, begun, cleaned = json.loads(output_of(command))
    assert "cannot be written any more: " in error
    assert begun == cleaned == completed < 10_000
    found = entries(path)
    assert begun <= len(found) <= begun + 4
    assert sum(not entry.is_open for entry in found.values()) >= completed - 4
    log: list[str] = []
    report = await run(path, [Noted(identity, log) for identity in found])
    assert report.completed + report.skipped == len(found)
    assert report.completed <= 8


READ_ONLY = """
import os, sys, trio, urllib.parse  # pathlib imports the last one when it is used
from trio_turnstile import LedgerError, open_ledger, read_ledger

if os.getuid() == 0:
    os.setuid(12345)  # root may write anything

async def main():
    try:
        async with open_ledger(sys.argv[1]):
            print("opened")
    except LedgerError as error:
        print(error)

trio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs the permissions of POSIX systems")
async def test_the_file_is_read_only(tmp_path: Path) -> None:
    """A file that cannot be written is refused when it is opened, and left as it was."""
    path = tmp_path / "run.db"
    await run(path, [Noted("a", [])])
    before = content(path)
    _forbid(path)
    assert _opened_by_another(path).endswith("attempt to write a readonly database\n")
    assert content(path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs the permissions of POSIX systems")
async def test_the_file_is_unreadable(tmp_path: Path) -> None:
    """A file that cannot be read is refused."""
    path = tmp_path / "run.db"
    await run(path, [Noted("a", [])])
    path.chmod(0)
    _open_folders(path)
    assert "cannot be opened: [Errno 13] Permission denied" in _opened_by_another(path)


def _opened_by_another(path: Path) -> str:
    command = [sys.executable, "-c", READ_ONLY, str(path)]
    return output_of(command)


def _forbid(path: Path) -> None:
    path.chmod(0o444)
    path.with_name(f"{path.name}-lock").chmod(0o666)
    _open_folders(path)


def _open_folders(path: Path) -> None:
    """Let any user into the folders of a test, and let them write into the last one."""
    path.parent.chmod(0o777)
    for folder in path.parent.parents:
        if "pytest-of" in str(folder):
            folder.chmod(0o755)
