"""Which files are opened as ledgers, and which are refused and left as they were."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from testkit.ledgers import Noted, content, copied, entries, files, on_disk, run
from trio_turnstile import Ledger, LedgerError, open_ledger, read_ledger, run_phases

OPENS = """
import sys, trio
from trio_turnstile import LedgerError, open_ledger

async def main():
    try:
        async with open_ledger(sys.argv[1]):
            print("opened")
    except LedgerError as error:
        print(error)

trio.run(main)
"""


def opened_elsewhere(path: Path) -> str:
    """Open a ledger in another process, and return its output."""
    command = [sys.executable, "-c", OPENS, str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def made(path: Path, names: str = "a") -> bytes:
    """Make a ledger in which operations have completed, and return its bytes."""
    await run(path, [Noted(name, []) for name in names])
    return content(path)


async def refused(path: Path, **options: Any) -> str:
    """Assert that a file is refused and left as it was; return the message."""
    before = content(path)
    with pytest.raises(LedgerError) as caught:
        async with open_ledger(path, **options):
            raise AssertionError("it was opened")
    assert content(path) == before
    with pytest.raises(LedgerError), read_ledger(path) as all_entries:
        list(all_entries)
    assert content(path) == before
    return str(caught.value)


async def test_second_process_is_refused(tmp_path: Path) -> None:
    """While a ledger is open no other process can open it; afterwards it can."""
    path = tmp_path / "run.db"
    async with open_ledger(path):
        assert f"the ledger {path} is in use" in opened_elsewhere(path)
    assert opened_elsewhere(path) == "opened\n"


async def test_second_opening_in_one_process_is_refused(tmp_path: Path) -> None:
    """A ledger cannot be opened twice at once in one process, either."""
    async with open_ledger(tmp_path / "run.db"):
        with pytest.raises(LedgerError, match="is in use: wait until"):
            async with open_ledger(tmp_path / "run.db"):
                raise AssertionError("it was opened")
    async with open_ledger(tmp_path / "run.db"):
        pass


@pytest.mark.parametrize(
    "content",
    [b"some notes\n", b"SQLite format 3\x00", b"x" * 200, b"\x00" * 4096],
    ids=["text", "a header cut short", "bytes", "zeros"],
)
async def test_foreign_files_are_refused(content: bytes, tmp_path: Path) -> None:
    """A file that is not a ledger is refused and left as it was, and nothing is put beside it."""
    path = tmp_path / "notes"
    path.write_bytes(content)
    assert "is not a ledger, and was left as it is" in await refused(path)
    assert files(tmp_path) == {path.name}


async def test_foreign_databases_are_refused(tmp_path: Path) -> None:
    """A database that is not a ledger is refused and left as it was."""
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE things (thing)")
        connection.commit()
    assert "give another name" in await refused(path)
    assert files(tmp_path) == {path.name}


async def test_newer_versions_are_refused(tmp_path: Path) -> None:
    """A ledger of a later release is refused, with both versions in the message."""
    path = tmp_path / "run.db"
    await made(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    assert "is a ledger of version 7, and this is for version 1" in await refused(path)


@pytest.mark.parametrize("kept", [0.9, 0.5, 4096])
async def test_truncated_ledgers_are_refused(kept: float, tmp_path: Path) -> None:
    """A ledger whose end is missing is refused and left as it was."""
    path = tmp_path / "run.db"
    whole = await made(path)
    path.write_bytes(whole[: int(kept if kept > 1 else len(whole) * kept)])
    assert "is torn: its end is missing" in await refused(path)


async def test_damaged_ledgers_are_refused(tmp_path: Path) -> None:
    """A ledger with garbage in it is refused and left as it was."""
    path = tmp_path / "run.db"
    whole = await made(path)
    path.write_bytes(whole[:4096] + b"\xff" * 4096 + whole[8192:])
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is damaged, and was left as it is"):
        async with open_ledger(path):
            raise AssertionError("it was opened")
    assert path.read_bytes() == before


async def test_ledgers_with_a_damaged_schema_are_refused(tmp_path: Path) -> None:
    """A ledger whose schema cannot be read is refused and left as it was."""
    path = tmp_path / "run.db"
    whole = await made(path)
    path.write_bytes(whole[:100] + b"\xff" * 3996 + whole[4096:])
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is damaged"):
        async with open_ledger(path):
            raise AssertionError("it was opened")
    assert path.read_bytes() == before


async def test_directories_are_refused(tmp_path: Path) -> None:
    """A directory is refused."""
    with pytest.raises(LedgerError, match="cannot be opened: "):
        async with open_ledger(tmp_path):
            raise AssertionError("it was opened")
    with pytest.raises(LedgerError, match="cannot be read: "), read_ledger(tmp_path):
        raise AssertionError("it was opened")
    assert files(tmp_path) == set()


async def test_missing_folders_are_refused(tmp_path: Path) -> None:
    """If the folder of a ledger is missing, the message says so."""
    path = tmp_path / "missing" / "run.db"
    with pytest.raises(LedgerError, match=r"cannot be opened: unable to open"):
        async with open_ledger(path):
            raise AssertionError("it was opened")


async def test_a_lock_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """If the file for the lock is something else, the message does not say ``in use``."""
    path, lock = tmp_path / "run.db", tmp_path / "run.db-lock"
    lock.write_bytes(b"x" * 1000)
    with pytest.raises(LedgerError, match="cannot be opened: file is not a database"):
        async with open_ledger(path):
            raise AssertionError("it was opened")
    assert lock.read_bytes() == b"x" * 1000
    assert not path.exists()


async def test_what_fails_while_a_ledger_is_made_leaves_nothing(tmp_path: Path) -> None:
    """If a ledger cannot be made, nothing is left of it."""
    (tmp_path / "run.db-wal").mkdir()
    with pytest.raises(LedgerError, match="cannot be opened: "):
        async with open_ledger(tmp_path / "run.db"):
            raise AssertionError("it was opened")
    assert files(tmp_path) == {"run.db-wal", "run.db-lock"}


async def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    """An empty file holds no data of anybody, so it becomes a ledger."""
    path = tmp_path / "run.db"
    path.touch()
    await made(path)
    assert list(entries(path)) == ["a"]


async def test_a_ledger_that_was_removed_leaves_nothing_behind(tmp_path: Path) -> None:
    """If the files of a ledger were removed in part, a new ledger has nothing of the old one."""
    async with open_ledger(tmp_path / "run.db") as ledger:
        await run_phases([Noted("a", [])], limiter=1, ledger=ledger)
        killed = copied(ledger.path, tmp_path / "killed" / "run.db")
    killed.unlink()
    report = await run(killed, [Noted("a", [])])
    assert report.completed == 1


async def test_killed_amid_a_checkpoint(tmp_path: Path) -> None:
    """If only part of the log has reached the file, it is not refused, and nothing is lost."""
    path = tmp_path / "run.db"
    async with open_ledger(path) as ledger:
        names = [400 * f"{number:2}" for number in range(20)]
        await run_phases([Noted(name, []) for name in names], limiter=9, ledger=ledger)
        await on_disk(ledger)
        killed = copied(path, tmp_path / "killed.db")
    # A checkpoint writes the pages in order, and the first page says how many there are.
    first, rest = path.read_bytes()[:4096], killed.read_bytes()[4096:]
    killed.write_bytes(first + rest)
    assert killed.stat().st_size < path.stat().st_size
    report = await run(killed, [Noted(name, []) for name in names])
    assert report.skipped == 20


async def test_names_of_files_may_be_anything(tmp_path: Path) -> None:
    """Characters with a meaning in addresses have none in the names of ledgers."""
    path = tmp_path / "run?mode=ro#%41 ü.db"
    await made(path)
    assert files(tmp_path) == {path.name, f"{path.name}-lock"}
    assert list(entries(path)) == ["a"]


async def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may be relative, and may be a string."""
    monkeypatch.chdir(tmp_path)
    async with open_ledger("run.db") as ledger:
        assert ledger.path == Path("run.db")
    with read_ledger("run.db") as all_entries:
        assert list(all_entries) == []


# ---- fingerprints ----


async def enter(path: Path, fingerprint: Any, **options: Any) -> None:
    async with open_ledger(path, fingerprint=fingerprint, **options):
        pass


async def test_another_fingerprint_is_refused(tmp_path: Path) -> None:
    """A run with another fingerprint is refused, and the error says what differs."""
    path = tmp_path / "run.db"
    await enter(path, {"command": "echo {}", "data": "v1", "same": "x"})
    await enter(path, {"same": "x", "data": "v1", "command": "echo {}"})
    with pytest.raises(LedgerError) as caught:
        await enter(path, {"command": "cat {}", "host": "b", "same": "x"})
    assert caught.value.differences == {
        "command": ("echo {}", "cat {}"),
        "data": ("v1", None),
        "host": (None, "b"),
    }
    assert (
        "command was 'echo {}' and is 'cat {}'; data was 'v1' and is absent; "
        "host was absent and is 'b'. Accept the changes, or give another name"
    ) in str(caught.value)


async def test_changes_can_be_accepted(tmp_path: Path) -> None:
    """With ``accept_changes`` a run goes on, and has the new fingerprint from then on."""
    path = tmp_path / "run.db"
    await made(path)
    await enter(path, "v2", accept_changes=True)
    await enter(path, "v2")
    with pytest.raises(LedgerError, match="fingerprint was 'v2' and is 'v1'"):
        await enter(path, "v1")
    with pytest.raises(LedgerError, match="fingerprint was 'v2' and is absent"):
        await enter(path, None)
    assert list(entries(path)) == ["a"]


async def test_a_refused_run_gives_the_lock_back(tmp_path: Path) -> None:
    """The ledger can be opened again after a refusal."""
    path = tmp_path / "run.db"
    await enter(path, "v1")
    with pytest.raises(LedgerError):
        await enter(path, "v2")
    await enter(path, "v1")


async def test_runs_have_their_own_fingerprints(tmp_path: Path) -> None:
    """Each run of a ledger has a fingerprint of its own."""
    path = tmp_path / "run.db"
    await enter(path, "v1", run="one")
    await enter(path, "v2", run="two \udcff")
    await enter(path, "v2", run="two \udcff")
    assert entries(path, "two \udcff") == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fingerprint": {"command": 3}}, "'command' is 3: give a str"),
        ({"fingerprint": {3: "command"}}, "3 is 'command': give a str"),
        ({"run": 3}, "run must be a name, not 3"),
    ],
)
async def test_arguments_of_a_wrong_type(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Arguments of a wrong type are refused before a file is made."""
    with pytest.raises(TypeError, match=message):
        async with open_ledger(tmp_path / "run.db", **options):
            raise AssertionError("it was opened")
    assert files(tmp_path) == set()


async def test_synchronous(tmp_path: Path) -> None:
    """``synchronous`` is one of SQLite's four settings."""
    for setting in ("off", "normal", "full", "extra"):
        async with open_ledger(tmp_path / "run.db", synchronous=setting) as ledger:
            assert isinstance(ledger, Ledger)
    with pytest.raises(ValueError, match="one of off, normal, full, extra, not 'fast'"):
        async with open_ledger(tmp_path / "run.db", synchronous="fast"):  # type: ignore[arg-type]
            raise AssertionError("it was opened")


# ---- reading ----


async def test_reading_while_a_run_writes(tmp_path: Path) -> None:
    """A ledger can be read while a run writes it."""
    seen: list[list[str]] = []

    class Looks(Noted):
        async def phase(self, name: str) -> None:
            if name == "work":
                found = entries(tmp_path / "run.db")
                seen.append([name for name, entry in found.items() if entry.is_open])

    async with open_ledger(tmp_path / "run.db") as ledger:
        await run_phases([Looks(name, []) for name in "ab"], limiter=1, ledger=ledger)
    assert seen == [["a"], ["b"]]


async def test_entries_come_in_the_order_of_their_beginnings(tmp_path: Path) -> None:
    """Entries have numbers, times and phases."""
    await made(tmp_path / "run.db", "cab")
    with read_ledger(tmp_path / "run.db") as all_entries:
        found = list(all_entries)
    assert [(entry.number, entry.identity) for entry in found] == [(1, "c"), (2, "a"), (3, "b")]
    for entry in found:
        assert (entry.outcome, entry.phase, entry.attempt) == ("completed", "cleanup", 1)
        assert entry.ended is not None
        assert entry.began <= entry.ended


async def test_reading_what_is_not_there(tmp_path: Path) -> None:
    """Reading makes neither a ledger nor a run."""
    with pytest.raises(LedgerError, match="there is no ledger"), read_ledger(tmp_path / "no.db"):
        raise AssertionError("it was opened")
    assert files(tmp_path) == set()
    await made(tmp_path / "run.db")
    with (
        pytest.raises(LedgerError, match="has no run 'one': it has ''"),
        read_ledger(tmp_path / "run.db", run="one"),
    ):
        raise AssertionError("it was opened")


async def test_errors_of_a_reader_are_its_own(tmp_path: Path) -> None:
    """An error raised by the block comes out as it is."""
    await made(tmp_path / "run.db")
    with pytest.raises(OSError, match="my own"), read_ledger(tmp_path / "run.db"):
        raise OSError("my own")


async def test_reading_a_damaged_ledger(tmp_path: Path) -> None:
    """Damage that is found while entries are read is an error of the ledger."""
    path = tmp_path / "run.db"
    await made(path, "abc")
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'operations'"
        ).fetchone()[0]
    whole = path.read_bytes()
    start = 4096 * (root - 1)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(whole[:start] + b"\xff" * 4096 + whole[start + 4096 :])
    with pytest.raises(LedgerError, match="cannot be read"):
        entries(damaged)
