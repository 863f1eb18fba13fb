"""Overrides in a ledger: a limit that somebody has set outlives the process."""

from __future__ import annotations

import math
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from testkit.ledgers import on_disk
from trio_turnstile import (
    Decision,
    Limiter,
    Override,
    Pause,
    Reason,
    Release,
    SetLimit,
    open_ledger,
    open_turnstile,
)

KILLED = """
import os, signal, sys, trio
from trio_turnstile import SetLimit, open_ledger, open_turnstile

async def main():
    async with open_ledger(sys.argv[1]) as ledger, open_turnstile() as turnstile:
        turnstile.limiter("work", 50)
        await ledger.keep_overrides(turnstile)
        await turnstile.ask("work", SetLimit(20), by="ann", note="night")
        while not await ledger.overrides():
            await trio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""


async def asked(path: Path, action: SetLimit | Release, limiter: str = "work") -> Decision:
    """Ask for an action in a run of its own with the ledger, and return the decision."""
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        turnstile.limiter(limiter, 50)
        await ledger.keep_overrides(turnstile)
        return await turnstile.ask(limiter, action, by="ann", note="night")


async def in_force(path: Path, limiter: str = "work") -> Override | None:
    """Return the override of a limiter in another run with the ledger."""
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        await ledger.keep_overrides(turnstile)
        return turnstile.limiter(limiter, 50).override


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_an_override_outlives_a_kill(tmp_path: Path) -> None:
    """The next process has the override from the start, and knows who set it, when and why."""
    path, before = tmp_path / "run.db", time.time()
    process = await trio.run_process([sys.executable, "-c", KILLED, str(path)], check=False)
    assert process.returncode == -signal.SIGKILL
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        work = turnstile.limiter("work", 50)
        await ledger.keep_overrides(turnstile)
        assert work.total_tokens == 20
        override = work.override
        assert override is not None
        assert (override.by, override.note, override.until) == ("ann", "night", math.inf)
        assert before <= override.wall_time <= time.time()
        assert override.time <= trio.current_time()
        (decision,) = work.decisions
        assert (decision.reason, decision.by, decision.note) == (Reason.OVERRIDE, "ann", "night")


async def test_a_limiter_that_joins_later_gets_its_override(tmp_path: Path) -> None:
    """The override is given once: a later limiter with the same name does not get it."""
    path = tmp_path / "run.db"
    await asked(path, SetLimit(20))
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        await ledger.keep_overrides(turnstile)
        assert turnstile.limiter("other", 50).override is None
        work = turnstile.limiter("work", 50)
        assert work.total_tokens == 20
        work.close()
        assert turnstile.add(Limiter("work", 50)).override is None


async def test_what_was_released_is_forgotten(tmp_path: Path) -> None:
    """A released override is forgotten in the run that set it, and in a later one."""
    path = tmp_path / "run.db"
    await asked(path, SetLimit(20))
    await asked(path, Release())
    assert await in_force(path) is None


async def test_what_the_program_assigns_ends_it_for_good(tmp_path: Path) -> None:
    """The override ends in the ledger, too. An assignment without an override is not noted."""
    path = tmp_path / "run.db"
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        work = turnstile.limiter("work", 50)
        await ledger.keep_overrides(turnstile)
        work.total_tokens = 5
        await turnstile.ask("work", SetLimit(20))
        await turnstile.ask("work", Pause(1))
        await on_disk(ledger)
        assert (await ledger.overrides()).keys() == {"work"}
        work.total_tokens = 6
        assert await ledger.overrides() == {}


async def test_one_that_ends_by_itself_ends_when_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """The time of an override goes on while no process runs."""
    path = tmp_path / "run.db"
    wall = time.time()
    instant = "trio_turnstile._limiting.instant.unix_time"
    await asked(path, SetLimit(20, for_seconds=100))
    monkeypatch.setattr(instant, lambda: wall + 40)
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        work = turnstile.limiter("work", 50)
        await ledger.keep_overrides(turnstile)
        override = work.override
        assert override is not None
        assert override.until - trio.current_time() == pytest.approx(
            60, abs=5
        )  # time that is not virtual passes meanwhile
        mock_clock.jump(54)
        await wait_all_tasks_blocked()
        assert work.total_tokens == 20
        mock_clock.jump(12)
        await wait_all_tasks_blocked()
        assert (work.total_tokens, work.override) == (50, None)
        assert await ledger.overrides() == {}


async def test_one_whose_time_was_over_is_not_set_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """An override may be over at the start of the process, or when its limiter joins."""
    path, wall = tmp_path / "run.db", time.time()
    await asked(path, SetLimit(20, for_seconds=100))
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        await ledger.keep_overrides(turnstile)
        mock_clock.jump(200)
        await wait_all_tasks_blocked()
        work = turnstile.limiter("work", 50)
        assert (work.override, work.decisions) == (None, ())
    monkeypatch.setattr("trio_turnstile._limiting.instant.unix_time", lambda: wall + 200)
    assert await in_force(path) is None


@pytest.mark.parametrize("tokens", [0, 3, math.inf])
async def test_any_limit_and_any_text_can_be_kept(tmp_path: Path, tokens: float) -> None:
    """The limit may be infinite, the text may be invalid Unicode, and the author may be missing."""
    path = tmp_path / "run.db"
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        odd, plain = turnstile.limiter("\udcff", 50), turnstile.limiter("plain", 50)
        await ledger.keep_overrides(turnstile)
        await turnstile.ask("\udcff", SetLimit(tokens), by="\udcfe", note="")
        await turnstile.ask("plain", SetLimit(1))
        set_to = {"\udcff": odd.override, "plain": plain.override}
    async with open_ledger(path) as ledger:
        kept = await ledger.overrides()
        assert {name: (each.tokens, each.by, each.note) for name, each in kept.items()} == {
            name: (each.tokens, each.by, each.note) for name, each in set_to.items() if each
        }
        assert type(kept["\udcff"].tokens) is (float if tokens == math.inf else int)


async def test_each_run_in_a_ledger_has_its_own(tmp_path: Path) -> None:
    """A run forgets its overrides when it starts afresh."""
    path = tmp_path / "run.db"
    for run, tokens in (("a", 1), ("b", 2)):
        async with open_ledger(path, run=run) as ledger, open_turnstile() as turnstile:
            turnstile.limiter("work", 50)
            await ledger.keep_overrides(turnstile)
            await turnstile.ask("work", SetLimit(tokens))
    async with open_ledger(path, run="a", fresh=True) as ledger:
        assert await ledger.overrides() == {}
    async with open_ledger(path, run="b") as ledger:
        assert (await ledger.overrides())["work"].tokens == 2


async def test_a_ledger_of_before_is_opened(tmp_path: Path) -> None:
    """A ledger of an earlier version gets what it needs to keep overrides."""
    path = tmp_path / "run.db"
    async with open_ledger(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE overrides")
    await asked(path, SetLimit(20))
    override = await in_force(path)
    assert override is not None
    assert override.tokens == 20


async def test_overrides_are_kept_until_the_keeping_is_closed(tmp_path: Path) -> None:
    """Overrides set after the end of the keeping hold for this process alone."""
    path = tmp_path / "run.db"
    async with open_ledger(path) as ledger, open_turnstile() as turnstile:
        turnstile.limiter("work", 50)
        with await ledger.keep_overrides(turnstile):
            pass
        await turnstile.ask("work", SetLimit(20))
        assert await ledger.overrides() == {}
