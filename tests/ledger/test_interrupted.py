"""What a run does with operations that a killed run has left open.

No process is killed here: the files of the ledger are copied in the middle of a run, as a kill
would leave them, and the copy is given to the next run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from testkit.ledgers import Noted, copied, entries, holds, on_disk, run
from trio_turnstile import (
    Abort,
    Aborted,
    Channels,
    Limiter,
    Manager,
    Scalable,
    open_ledger,
    run_phases,
    start_phases,
)
from trio_turnstile.testing import assert_conserved


async def killed_in(
    phase: str, folder: Path, *, facts: dict[str, Any] | None = None, names: str = "a"
) -> Path:
    """Return the ledger of a run that was killed in a phase of the last operation."""

    class Killed(Noted):
        async def phase(self, name: str) -> None:
            if name == phase and self.identity == names[-1]:
                await on_disk(ledger)
                copied(ledger.path, folder / "killed.db")

        async def work(self, channels: Channels) -> None:
            if facts is not None:
                await channels.remember(**facts)
            await super().work(channels)

    async with open_ledger(folder / "whole.db") as ledger:
        await run_phases([Killed(name, []) for name in names], limiter=1, ledger=ledger)
    return folder / "killed.db"


@pytest.mark.parametrize("phase", ["prepare", "work", "monitor"])
async def test_interrupted_operations_are_cleaned_up_and_done_again(
    phase: str, tmp_path: Path
) -> None:
    """An interrupted operation is cleaned up before anything else is done for it."""
    path, log = await killed_in(phase, tmp_path, names="ab"), list[str]()
    entry = entries(path)["b"]
    assert (entry.is_open, entry.phase, entry.outcome) == (True, phase, None)
    report = await run(path, [Noted("a", log), Noted("b", log), Noted("c", log)])
    assert (report.completed, report.skipped) == (2, 1)
    of_b = [line for line in log if line.startswith("b")]
    assert of_b == ["b cleanup", "b prepare", "b work", "b monitor", "b cleanup"]
    assert log.count("c cleanup") == 1
    assert not entries(path)["b"].is_open


async def test_a_limit_that_falls_while_it_is_cleaned_up_first(tmp_path: Path) -> None:
    """The operation fails if it needs more tokens than are left; it is not done again."""
    path, log = await killed_in("work", tmp_path), list[str]()
    limiter = Limiter("memory", 2)

    class Lowers(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            limiter.total_tokens = 1

    async with open_ledger(path) as ledger:
        report = await run_phases([Lowers("a", log)], limiter=limiter, weight=2, ledger=ledger)
    assert_conserved(report)
    assert report.failed == 1
    assert "a work" not in log
    assert "2 were asked for" in str(entries(path)["a"].error)


async def test_killed_in_the_clean_up(tmp_path: Path) -> None:
    """An operation with a known outcome is only cleaned up, and keeps its outcome."""
    path, log = await killed_in("cleanup", tmp_path), list[str]()
    entry = entries(path)["a"]
    assert (entry.is_open, entry.outcome, entry.phase) == (True, "completed", "cleanup")
    report = await run(path, [Noted("a", log)])
    assert log == ["a cleanup"]
    assert report.completed == 1
    assert entries(path)["a"].outcome == "completed"


async def test_killed_in_the_clean_up_after_a_failure(tmp_path: Path) -> None:
    """A failure whose clean-up was interrupted stays a failure once it is cleaned up."""

    class Fails(Noted):
        async def phase(self, name: str) -> None:
            if name == "work":
                raise OSError("no")
            if name == "cleanup":
                await on_disk(ledger)
                copied(ledger.path, tmp_path / "killed.db")

    async with open_ledger(tmp_path / "whole.db") as ledger:
        await run_phases([Fails("a", [])], limiter=1, ledger=ledger)
    log: list[str] = []
    report = await run(tmp_path / "killed.db", [Noted("a", log)])
    assert log == ["a cleanup"]
    assert report.failed == 1
    assert entries(tmp_path / "killed.db")["a"].outcome == "failed"


async def test_killed_again_and_again(tmp_path: Path) -> None:
    """An operation whose run is killed time and again is cleaned up first each time."""
    path, log = await killed_in("monitor", tmp_path), list[str]()

    class Killed(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            if name == "prepare":
                await on_disk(ledger)
                copied(ledger.path, tmp_path / f"{ledger.path.stem}-again.db")

    for _ in range(3):
        async with open_ledger(path) as ledger:
            await run_phases([Killed("a", log)], limiter=1, ledger=ledger)
        path = path.with_name(f"{path.stem}-again.db")
        assert entries(path)["a"].phase == "prepare"
    assert log[::5] == ["a cleanup"] * 3
    assert len(log) == 15


async def test_recall_goes_on_where_it_says(tmp_path: Path) -> None:
    """A submitted job is monitored; it is not submitted again, nor cleaned up first."""
    path, log = await killed_in("monitor", tmp_path, facts={"job": "4711"}), list[str]()
    operation = Noted("a", log, first="monitor")
    report = await run(path, [operation])
    assert operation.facts == {"job": "4711"}
    assert log == ["a monitor", "a cleanup"]
    assert report.completed == 1


async def test_recall_to_work(tmp_path: Path) -> None:
    """An interrupted operation may go on from work."""
    path, log = await killed_in("monitor", tmp_path, facts={"job": "4711"}), list[str]()
    await run(path, [Noted("a", log, first="work")])
    assert log == ["a work", "a monitor", "a cleanup"]


async def test_recall_to_the_clean_up(tmp_path: Path) -> None:
    """An operation that recalls that it was done is only cleaned up, and has completed."""
    path, log = await killed_in("monitor", tmp_path, facts={"job": "4711"}), list[str]()
    report = await run(path, [Noted("a", log, first="cleanup")])
    assert log == ["a cleanup"]
    assert report.completed == 1
    assert entries(path)["a"].outcome == "completed"


async def test_recall_to_prepare_forgets(tmp_path: Path) -> None:
    """An operation that recalls ``prepare`` is done again without facts."""
    path, log = await killed_in("monitor", tmp_path, facts={"job": "4711"}), list[str]()
    await run(path, [Noted("a", log)])
    assert log[0] == "a cleanup"
    assert entries(path)["a"].facts == {}


async def test_what_the_ledger_knows_after_going_on(tmp_path: Path) -> None:
    """The ledger has the current phase of an operation that is done again, not the old one."""
    path = await killed_in("monitor", tmp_path)
    seen: list[str] = []

    class Looks(Noted):
        async def phase(self, name: str) -> None:
            if len(self.log) == 1:
                await on_disk(ledger)
                seen.append(entries(path)["a"].phase)
            self.log.append(name)

    async with open_ledger(path) as ledger:
        await run_phases([Looks("a", [])], limiter=1, ledger=ledger)
    assert seen == ["prepare"]


@pytest.mark.parametrize("nonsense", ["", "done", None, 3, ["work"]])
async def test_recall_that_answers_nonsense(nonsense: object, tmp_path: Path) -> None:
    """An answer that is not a phase fails the operation, which is cleaned up."""
    path, log = await killed_in("monitor", tmp_path, facts={"job": "4711"}), list[str]()
    report = await run(path, [Noted("a", log, first=nonsense)])
    (error,) = report.errors
    assert error.phase == "recall"
    assert f"one of prepare, work, monitor, cleanup, not {nonsense!r}" in str(error)
    assert (report.failed, log) == (1, ["a cleanup"])
    assert entries(path)["a"].outcome == "failed"
    assert "recall must return" in str(entries(path)["a"].error)


async def test_recall_that_raises(tmp_path: Path) -> None:
    """An error in recall fails the operation, which is cleaned up; the policies decide."""

    class Forgetful(Noted):
        def recall(self, facts: object) -> Any:
            raise KeyError("job")

    path, log = await killed_in("monitor", tmp_path, facts={"job": "4711"}), list[str]()
    async with open_ledger(path) as ledger:
        with pytest.raises(Aborted) as caught:
            await run_phases([Forgetful("a", log)], limiter=1, ledger=ledger, on_error=Abort())
    (error,) = caught.value.exceptions
    assert isinstance(error.__cause__, KeyError)
    assert log == ["a cleanup"]
    assert entries(path)["a"].outcome == "failed"


async def test_clean_up_after_a_kill_holds_no_token(tmp_path: Path) -> None:
    """The clean-up after an earlier run holds no token; the phases that follow hold one."""
    path, limiter = await killed_in("work", tmp_path), Limiter("api", 1)
    held: list[bool] = []

    class Looks(Noted):
        async def phase(self, name: str) -> None:
            held.append(await holds(limiter))

    async with open_ledger(path) as ledger:
        await run_phases([Looks("a", [])], limiter=limiter, ledger=ledger)
    assert held == [False, True, True, True, False]


async def test_clean_up_after_a_kill_that_raises(tmp_path: Path) -> None:
    """An error of the clean-up after a kill is recorded, and the operation is done again."""
    path = await killed_in("work", tmp_path)

    class Untidy(Noted):
        async def phase(self, name: str) -> None:
            self.log.append(name)
            if self.log == ["cleanup"]:
                raise OSError("no")

    log: list[str] = []
    report = await run(path, [Untidy("a", log)])
    assert (report.completed, len(report.errors)) == (1, 1)
    assert report.errors[0].phase == "cleanup"
    assert log == ["cleanup", "prepare", "work", "monitor", "cleanup"]


async def test_clean_up_after_a_kill_that_overruns_its_grace(
    mock_clock: MockClock, tmp_path: Path
) -> None:
    """If the clean-up after a kill is cut off, the operation has failed and is not done again."""
    path, log = await killed_in("work", tmp_path), list[str]()

    class Hangs(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            mock_clock.jump(6)
            await trio.sleep_forever()

    report = await run(path, [Hangs("a", log), Noted("b", log)], cleanup_grace=5)
    assert (report.failed, report.completed) == (1, 1)
    assert log[:2] == ["a cleanup", "b prepare"]
    entry = entries(path)["a"]
    assert entry.outcome == "failed"
    assert "5 seconds" in str(entry.error)


async def test_operations_without_clean_up_are_done_again(tmp_path: Path) -> None:
    """An interrupted operation that has no clean-up is simply done again."""
    path, log = await killed_in("work", tmp_path), list[str]()

    class OnlyWorks(Scalable):
        @property
        def identity(self) -> str:
            return "a"

        async def work(self, channels: Channels) -> None:
            log.append("work")

    report = await run(path, [OnlyWorks()])
    assert (report.completed, log) == (1, ["work"])


async def test_interrupted_operations_can_be_given_first(tmp_path: Path) -> None:
    """``ledger.interrupted()`` gives the operations left open, with facts, oldest first."""
    path = await killed_in("monitor", tmp_path, facts={"job": [1, None]}, names="ab")
    async with open_ledger(path) as ledger:
        (entry,) = await ledger.interrupted()
        assert (entry.identity, entry.number, entry.phase) == ("b", 2, "monitor")
        assert entry.facts == {"job": [1, None]}
        assert entry.attempt == 1
        assert entry.ended is None
        await run_phases([Noted("c", [])], limiter=1, ledger=ledger)
        assert await ledger.interrupted() == (entry,)  # nobody gave this operation to the run
        await run_phases([Noted("b", [])], limiter=1, ledger=ledger)
        assert await ledger.interrupted() == ()


async def test_what_runs_now_was_not_interrupted(tmp_path: Path) -> None:
    """The operations of a run in progress are not among the interrupted ones."""
    seen: list[object] = []

    class Looks(Noted):
        async def work(self, channels: Channels) -> None:
            seen.append(await ledger.interrupted())

    async with open_ledger(tmp_path / "run.db") as ledger:
        await run_phases([Looks("a", [])], limiter=1, ledger=ledger)
    assert seen == [()]


async def drained_while_it_asks(path: Path, log: list[str]) -> Manager:
    """Run an operation, and drain the run while the ledger is asked for it."""

    class Drains(Noted):
        @property
        def identity(self) -> str:
            manager.drain()
            return "a"

    async def source() -> AsyncIterator[Scalable]:
        await started.wait()
        yield Drains("a", log)

    started = trio.Event()
    async with (
        open_ledger(path) as ledger,
        start_phases(source(), limiter=1, ledger=ledger) as manager,
    ):
        started.set()
    assert_conserved(manager)
    return manager


async def test_a_drained_run_leaves_interrupted_operations_alone(tmp_path: Path) -> None:
    """A run that is told to drain begins nothing, so interrupted operations stay interrupted."""
    path, log = await killed_in("work", tmp_path), list[str]()
    manager = await drained_while_it_asks(path, log)
    assert (manager.cancelled, log) == (1, [])
    assert entries(path)["a"].is_open


async def test_a_drained_run_begins_nothing(tmp_path: Path) -> None:
    """An operation that waits for the ledger while the run is told to drain does not begin."""
    path, log = tmp_path / "run.db", list[str]()
    manager = await drained_while_it_asks(path, log)
    assert (manager.cancelled, log) == (1, [])
    assert not entries(path)["a"].is_open
    report = await run(path, [Noted("a", log)])
    assert report.completed == 1
    assert log[0] == "a prepare"
