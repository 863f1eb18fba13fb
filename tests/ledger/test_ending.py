"""How runs with a ledger end early: cancelled, drained, aborted, interrupted by Ctrl-C."""

from __future__ import annotations

import signal
import threading
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from testkit.interrupts import Started
from testkit.ledgers import Noted, entries, run
from trio_turnstile import (
    Abort,
    Aborted,
    Manager,
    RateLimiter,
    Scalable,
    open_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved

NAMES = "abcdef"


async def test_a_run_that_is_cancelled(tmp_path: Path) -> None:
    """When a run is cancelled from outside, its operations are noted as cancelled."""
    path, log = tmp_path / "run.db", list[str]()

    class Waits(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            if name == "work" and self.identity == "c":
                scope.cancel()
                await trio.sleep_forever()

    async with open_ledger(path) as ledger:
        with trio.CancelScope() as scope:
            await run_phases([Waits(name, log) for name in NAMES], limiter=1, ledger=ledger)
    assert scope.cancelled_caught
    found = entries(path)
    assert [name for name in found if found[name].outcome == "completed"] == ["a", "b"]
    assert not any(entry.is_open for entry in found.values())
    log.clear()
    report = await run(path, [Noted(name, log) for name in NAMES])
    assert (report.skipped, report.completed) == (2, 4)
    assert log[0] == "c prepare"


async def test_cancelling_the_block_of_a_ledger(tmp_path: Path) -> None:
    """Leaving the block waits until all is on disk, even if everything around it is cancelled."""
    path = tmp_path / "run.db"
    with trio.CancelScope() as scope:
        async with open_ledger(path) as ledger:
            await run_phases([Noted("a", [])], limiter=1, ledger=ledger)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    async with open_ledger(path):  # the ledger was closed
        assert entries(path)["a"].outcome == "completed"


async def test_an_aborted_run(tmp_path: Path) -> None:
    """Operations cut off by an abort are noted, and done by the next run; the failure is not."""
    path, log = tmp_path / "run.db", list[str]()

    class Fails(Noted):
        async def phase(self, name: str) -> None:
            if name == "work" and self.identity == "b":
                raise OSError("no")

    with pytest.raises(Aborted) as caught:
        await run(path, [Fails(name, []) for name in NAMES], on_error=Abort())
    assert_conserved(caught.value.report)
    assert entries(path)["b"].outcome == "failed"
    report = await run(path, [Noted(name, log) for name in NAMES])
    assert report.skipped + report.completed == 6
    assert "b work" not in log
    assert "f work" in log


async def test_a_drained_run(tmp_path: Path) -> None:
    """A drained run finishes what it has begun, and the next run does the rest."""
    path, log = tmp_path / "run.db", list[str]()
    started: Started[Manager] = Started()

    class Drains(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            if name == "work" and self.identity == "b":
                started.values[0].drain()

    operations = [Drains(name, log) for name in NAMES]
    report = await run(path, operations, task_status=started)
    assert report.completed + report.cancelled == report.received < 6
    log.clear()
    second = await run(path, [Noted(name, log) for name in NAMES])
    assert second.completed + second.skipped == 6
    assert second.skipped == report.completed


def test_ctrl_c_in_a_phase(tmp_path: Path) -> None:
    """Ctrl-C comes out alone; the phase it cut off is cleaned up, and done by the next run."""
    path, log = tmp_path / "run.db", list[str]()

    class Interrupted(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            if name == "work" and self.identity == "b":
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(partial(run, path, [Interrupted(name, log) for name in NAMES]))
    assert log.count("b cleanup") == 1
    assert entries(path)["b"].outcome == "cancelled"
    assert not any(entry.is_open for entry in entries(path).values())
    report = trio.run(partial(run, path, [Noted(name, log) for name in NAMES]))
    assert report.skipped + report.completed == 6
    assert log.count("b cleanup") == 2


def test_ctrl_c_while_a_ledger_is_closed(tmp_path: Path) -> None:
    """Ctrl-C while the block is left does not keep anything from reaching the disk."""
    path = tmp_path / "run.db"
    strike = threading.Event()

    def slow() -> None:
        strike.wait(10)

    async def main() -> None:
        async with open_ledger(path) as ledger:
            await run_phases([Noted("a", [])], limiter=1, ledger=ledger)
            ledger._writer.post(slow)
            for number in range(100):
                ledger._writer.post(partial(ledger._store.note, 1, "cleanup", number, None))
            trio.lowlevel.current_trio_token().run_sync_soon(interrupt)

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)
        strike.set()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert entries(path)["a"].attempt == 99


async def test_ledgers_are_for_operations(tmp_path: Path) -> None:
    """A run without operations opens and closes its ledger like any other."""
    operations: list[Scalable] = []
    report = await run(tmp_path / "run.db", operations)
    assert report.received == 0
    assert entries(tmp_path / "run.db") == {}


async def test_what_waits_for_the_rate_when_it_is_drained(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    """An operation that was received and waits for the rate is neither begun nor noted."""
    started: Started[Manager] = Started()

    class Drains(Noted):
        async def phase(self, name: str) -> None:
            if name == "work":
                while started.values[0].received < 2:
                    await trio.lowlevel.checkpoint()
                started.values[0].drain()
                mock_clock.jump(5000)

    path, rate = tmp_path / "run.db", RateLimiter(0.001)
    operations = [Drains(name, []) for name in NAMES]
    async with open_ledger(path) as ledger:
        report = await run_phases(
            operations, limiter=4, ledger=ledger, rate=rate, task_status=started
        )
    assert_conserved(report)
    assert (report.completed, report.cancelled) == (1, report.received - 1)
    assert list(entries(path)) == ["a"]


async def test_operations_that_do_nothing(tmp_path: Path) -> None:
    """An operation without phases is noted like any other."""

    class Nothing(Scalable):
        identity = "nothing"

    report = await run(tmp_path / "run.db", [Nothing()])
    assert report.completed == 1
    assert entries(tmp_path / "run.db")["nothing"].phase == "prepare"
