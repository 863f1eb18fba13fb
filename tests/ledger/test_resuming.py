"""What the next run with the same ledger does, and does not do again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from testkit.ledgers import Noted, entries, holds, run
from trio_turnstile import (
    Aborted,
    ConcurrentError,
    DeadLetter,
    Limiter,
    RateLimiter,
    open_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


class Fails(Noted):
    """An operation that fails while it works."""

    async def phase(self, name: str) -> None:
        await super().phase(name)
        if name == "work":
            raise OSError("the disk is on fire")


PHASES = ["prepare", "work", "monitor", "cleanup"]


def of(identity: str) -> list[str]:
    return [f"{identity} {phase}" for phase in PHASES]


async def test_what_has_completed_is_skipped(tmp_path: Path) -> None:
    """A second run with the same operations does nothing, and counts them as skipped."""
    log: list[str] = []
    first = await run(tmp_path / "run.db", [Noted(name, log) for name in "abc"])
    assert (first.received, first.completed, first.skipped) == (3, 3, 0)
    assert log == [*of("a"), *of("b"), *of("c")]
    second = await run(tmp_path / "run.db", [Noted(name, log) for name in "abc"])
    assert (second.received, second.completed, second.skipped) == (3, 0, 3)
    assert len(log) == 12


async def test_operations_are_known_by_their_identity(tmp_path: Path) -> None:
    """Operations may be shuffled, added and taken away between runs."""
    log: list[str] = []
    await run(tmp_path / "run.db", [Noted(name, log) for name in "abc"])
    log.clear()
    report = await run(tmp_path / "run.db", [Noted(name, log) for name in "dca"])
    assert (report.completed, report.skipped) == (1, 2)
    assert log == of("d")


async def test_identity_is_the_identifiers_joined(tmp_path: Path) -> None:
    """Unless an operation defines its identity, its identifiers are its identity."""

    class Named(Noted):
        @property
        def identifiers(self) -> tuple[str, ...]:
            return ("host 1", self._identity)

        @property
        def identity(self) -> str:
            return super(Noted, self).identity

    await run(tmp_path / "run.db", [Named("a", [])])
    assert list(entries(tmp_path / "run.db")) == ["host 1/a"]


async def test_what_has_failed_is_skipped(tmp_path: Path) -> None:
    """An operation that has failed is skipped; the ledger says why it failed."""
    log: list[str] = []
    first = await run(tmp_path / "run.db", [Fails("a", log)])
    second = await run(tmp_path / "run.db", [Fails("a", log)])
    assert (first.failed, second.failed, second.skipped) == (1, 0, 1)
    assert log == ["a prepare", "a work", "a cleanup"]
    entry = entries(tmp_path / "run.db")["a"]
    assert entry.outcome == "failed"
    assert entry.error is not None
    assert "the disk is on fire" in entry.error
    assert not entry.is_open


async def test_what_has_failed_is_done_again_if_asked_for(tmp_path: Path) -> None:
    """With ``retry_failed``, an operation that has failed is done again; others are not."""
    log: list[str] = []
    await run(tmp_path / "run.db", [Fails("a", log), Noted("b", log)])
    log.clear()
    operations = [Noted("a", log), Noted("b", log)]
    report = await run(tmp_path / "run.db", operations, retry_failed=True)
    assert (report.completed, report.skipped) == (1, 1)
    assert log == of("a")
    entry = entries(tmp_path / "run.db")["a"]
    assert (entry.outcome, entry.error) == ("completed", None)


async def test_dead_letters_are_skipped_like_failures(tmp_path: Path) -> None:
    """A dead letter is skipped, and done again with ``retry_failed``."""
    letters: list[ConcurrentError] = []

    async def keep(letter: ConcurrentError) -> None:
        letters.append(letter)

    path, log = tmp_path / "run.db", list[str]()
    first = await run(path, [Fails("a", log)], on_error=DeadLetter(keep))
    assert (first.diverted, len(letters)) == (1, 1)
    entry = entries(path)["a"]
    assert entry.outcome == "diverted"
    assert entry.error is not None
    assert "fire" in entry.error
    second = await run(path, [Noted("a", log)])
    third = await run(path, [Noted("a", log)], retry_failed=True)
    assert (second.skipped, third.skipped, third.completed) == (1, 0, 1)


async def test_cancelled_operations_are_done_again(tmp_path: Path) -> None:
    """The next run does cancelled operations and those that did not begin, without being asked."""
    log: list[str] = []

    class Waits(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            if name == "work":
                manager.cancel()
                await trio.sleep_forever()

    async with open_ledger(tmp_path / "run.db") as ledger, trio.open_nursery() as nursery:
        operations = [Waits("a", log), Noted("b", log)]
        manager = await nursery.start(partial(run_phases, operations, limiter=1, ledger=ledger))
    assert_conserved(manager)
    assert (manager.completed, manager.skipped) == (0, 0)
    assert log == ["a prepare", "a work", "a cleanup"]
    assert entries(tmp_path / "run.db")["a"].outcome == "cancelled"
    log.clear()
    report = await run(tmp_path / "run.db", [Noted("a", log), Noted("b", log)])
    assert (report.completed, report.skipped) == (2, 0)
    assert log == [*of("a"), *of("b")]  # cleaned up already, so not again at the start


async def test_two_runs_at_once_share_a_ledger(tmp_path: Path) -> None:
    """Each of two runs with one ledger skips what the other has done, and has its own counts."""
    log: list[str] = []
    async with open_ledger(tmp_path / "run.db") as ledger:
        async with trio.open_nursery() as nursery:
            for names in ("abc", "def"):
                operations = [Noted(name, log) for name in names]
                nursery.start_soon(partial(run_phases, operations, limiter=2, ledger=ledger))
        again = await run_phases([Noted(name, log) for name in "fa"], limiter=1, ledger=ledger)
    assert_conserved(again)
    assert sorted(log) == sorted(line for name in "abcdef" for line in of(name))
    assert again.skipped == 2


async def test_runs_of_several_names_are_apart(tmp_path: Path) -> None:
    """A ledger keeps several runs, each with its own operations."""
    log: list[str] = []
    path = tmp_path / "run.db"
    for name in ("one", "two", "one"):
        async with open_ledger(path, run=name) as ledger:
            assert (ledger.path, ledger.run) == (path, name)
            await run_phases([Noted("a", log)], limiter=1, ledger=ledger)
    assert log == [*of("a"), *of("a")]
    assert list(entries(path, "one")) == list(entries(path, "two")) == ["a"]


async def test_skipping_takes_no_phase_and_gives_its_token_back(tmp_path: Path) -> None:
    """An operation that is skipped leaves the limiter as it was."""
    await run(tmp_path / "run.db", [Noted("a", [])])
    limiter = Limiter("api", 1)
    async with open_ledger(tmp_path / "run.db") as ledger:
        report = await run_phases([Noted("a", [])], limiter=limiter, ledger=ledger)
    assert report.skipped == 1
    assert limiter.borrowed_tokens == 0


async def test_each_operation_is_cleaned_up_without_a_token(tmp_path: Path) -> None:
    """Clean-up holds no token, whether there is a ledger or not."""
    limiter = Limiter("api", 1)
    held: list[bool] = []

    class Looks(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            held.append(await holds(limiter))

    async with open_ledger(tmp_path / "run.db") as ledger:
        await run_phases([Looks("a", [])], limiter=limiter, ledger=ledger)
    assert held == [True, True, True, False]


async def test_what_is_skipped_waits_for_no_rate(tmp_path: Path, mock_clock: MockClock) -> None:
    """While the clock stands still, ended operations pass, and doubled ones are found."""
    rate = RateLimiter(1, burst=2)
    names = [str(number) for number in range(50)]
    await run(tmp_path / "db", [Noted(name, []) for name in names])
    again = [*names, "new", "0"]
    report = await run(tmp_path / "db", [Noted(name, []) for name in again], rate=rate)
    assert (report.skipped, report.completed, report.failed) == (50, 1, 1)


async def test_a_path_is_no_ledger(tmp_path: Path) -> None:
    """A path is refused, and the error says what to pass."""
    with pytest.raises(TypeError, match="such as open_ledger"):
        await run_phases([], limiter=1, ledger=str(tmp_path / "db"))  # type: ignore[arg-type]


async def test_an_operation_learns_that_it_is_skipped(tmp_path: Path) -> None:
    """The hook is called instead of the phases; if it raises, the operation has failed."""

    class Learns(Noted):
        def skipped(self) -> None:
            self.log.append(f"{self.identity} skipped")
            if self.identity == "b":
                raise ValueError("no")

    log: list[str] = []
    await run(tmp_path / "db", [Noted("a", []), Noted("b", [])])
    report = await run(tmp_path / "db", [Learns("a", log), Learns("b", log), Learns("a", log)])
    assert log == ["a skipped", "b skipped", "a skipped"]
    assert (report.skipped, report.failed) == (1, 2)


async def test_a_fresh_ledger_forgets(tmp_path: Path) -> None:
    """All operations are done again, with any fingerprint, and other runs in the file stay."""
    path, log = tmp_path / "db", list[str]()
    async with open_ledger(path, run="other") as ledger:
        await run_phases([Noted("a", [])], limiter=1, ledger=ledger)
    await run(path, [Noted("a", [])])
    async with open_ledger(path, fresh=True, fingerprint="changed") as ledger:
        report = await run_phases([Noted("a", log)], limiter=1, ledger=ledger)
    assert_conserved(report)
    assert (report.completed, log) == (1, of("a"))
    assert entries(path, "other").keys() == {"a"}


async def test_what_is_left_is_named_and_begun_later(tmp_path: Path) -> None:
    """Operations that were left are entries of the ledger; known ones stay as they are."""
    path = tmp_path / "db"
    await run(path, [Noted("a", [])])
    async with open_ledger(path) as ledger:
        await ledger.leave(["a", "b"])
    found = entries(path)
    assert {name: found[name].outcome for name in found} == {"a": "completed", "b": "left"}
    report = await run(path, [Noted("a", []), Noted("b", [])])
    assert (report.skipped, report.completed) == (1, 1)


async def test_with_a_rate_wrong_operations_are_refused_too(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Looking operations up before the rate hides no error of wrong ones."""

    class Numbered(Noted):
        identity = 3  # type: ignore[assignment]

    rate = RateLimiter(10)
    report = await run(tmp_path / "db", [Numbered("", []), Noted("a", [])], rate=rate)
    assert (report.failed, report.completed) == (1, 1)
    with pytest.raises(Aborted):
        await run(tmp_path / "db", ["b"], rate=rate)
