"""How operations are identified, and what they remember."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from testkit.ledgers import Noted, entries, on_disk, run
from testkit.phases import Works
from trio_turnstile import (
    Channels,
    LedgerError,
    Limiter,
    PhaseTimeouts,
    Retry,
    Skip,
    open_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved, no_backoff


async def test_doubled_identities(tmp_path: Path) -> None:
    """The second operation with an identity gets an error that names it; the first goes on."""
    log: list[str] = []
    report = await run(tmp_path / "run.db", [Noted("a", log), Noted("b", log), Noted("a", log)])
    assert (report.completed, report.failed) == (2, 1)
    (error,) = report.errors
    assert isinstance(error.__cause__, ValueError)
    assert "identity 'a' came before in this run" in str(error)
    assert len(log) == 8
    assert entries(tmp_path / "run.db")["a"].outcome == "completed"


@pytest.mark.parametrize("identity", ["", None, 3, b"a", ("a",)])
async def test_no_identity(identity: Any, tmp_path: Path) -> None:
    """An identity that is empty, or not a text, fails the operation."""
    log: list[str] = []
    report = await run(tmp_path / "run.db", [Noted(identity, log), Noted("b", log)])
    assert (report.completed, report.failed) == (1, 1)
    assert "has no identity, which must be a text" in str(report.errors[0])
    assert list(entries(tmp_path / "run.db")) == ["b"]


async def test_operations_without_identifiers_have_no_identity(tmp_path: Path) -> None:
    """The identity is empty if an operation defines nothing."""
    report = await run(tmp_path / "run.db", [Works(0)])
    assert report.failed == 1
    assert "Define identifiers or identity" in str(report.errors[0])


async def test_an_identity_that_raises(tmp_path: Path) -> None:
    """An error in the identity fails the operation, and no phase is called."""

    class Broken(Noted):
        @property
        def identity(self) -> str:
            raise KeyError("name")

    log: list[str] = []
    report = await run(tmp_path / "run.db", [Broken("a", log)])
    assert (report.failed, log) == (1, [])
    assert isinstance(report.errors[0].__cause__, KeyError)


@pytest.mark.parametrize(
    "identity", ["a\0b", "\udcff.txt", "ü", " ", "x" * 100_000, "a\nb", "'; DROP TABLE runs"]
)
async def test_identities_may_be_any_text(identity: str, tmp_path: Path) -> None:
    """Any text is an identity, and is not mistaken for another one."""
    path = tmp_path / "run.db"
    others = [Noted(identity[:-1] + "?", []), Noted("a", [])]
    first = await run(path, [Noted(identity, []), *others])
    assert first.completed == 3
    assert next(iter(entries(path))) == identity
    second = await run(path, [Noted(identity, []), Noted("a\0", [])])
    assert (second.skipped, second.completed) == (1, 1)


async def test_errors_may_be_any_text(tmp_path: Path) -> None:
    """The reason of a failure may contain characters that are not valid Unicode."""

    class Odd(Exception):
        def __repr__(self) -> str:
            return "no file \udcff\0"

    class Fails(Noted):
        async def phase(self, name: str) -> None:
            raise Odd

    await run(tmp_path / "run.db", [Fails("a", [])])
    assert "\udcff" in str(entries(tmp_path / "run.db")["a"].error)


async def test_what_is_no_operation(tmp_path: Path) -> None:
    """A value that is not an operation stops the run, as it does without a ledger."""
    with pytest.raises(ExceptionGroup) as caught:
        await run(tmp_path / "run.db", ["nonsense"])
    assert "must be a Scalable, not 'nonsense'" in str(caught.value.exceptions[0])


async def test_what_fails_in_the_clean_up_has_a_reason(tmp_path: Path) -> None:
    """The ledger says why a clean-up failed, unless the operation had failed before it."""

    class Untidy(Noted):
        async def phase(self, name: str) -> None:
            if name == "cleanup":
                raise OSError("cannot tidy up")
            if name == "work" and self.identity == "b":
                raise OSError("cannot work")

    report = await run(tmp_path / "run.db", [Untidy("a", []), Untidy("b", [])])
    assert report.failed == 2
    found = entries(tmp_path / "run.db")
    assert (found["a"].outcome, found["b"].outcome) == ("failed", "failed")
    assert "cannot tidy up" in str(found["a"].error)
    assert "cannot work" in str(found["b"].error)


# ---- facts ----


class Remembers(Noted):
    """An operation that remembers facts while it works, and reads the ledger when it monitors."""

    def __init__(self, identity: str, facts: dict[str, Any]) -> None:
        super().__init__(identity, [])
        self.known = facts

    async def work(self, channels: Channels) -> None:
        await channels.remember(**self.known)


async def test_facts_are_on_disk_when_remember_returns(tmp_path: Path) -> None:
    """A fact can be read as soon as ``remember`` has returned, and replaces an earlier one."""
    seen: list[Any] = []

    class Looks(Remembers):
        async def monitor(self, channels: Channels) -> None:
            seen.append(dict(entries(tmp_path / "run.db")["a"].facts))
            await channels.remember(job="2", more=True)
            seen.append(dict(entries(tmp_path / "run.db")["a"].facts))

    await run(tmp_path / "run.db", [Looks("a", {"job": "1"})])
    assert seen == [{"job": "1"}, {"job": "2", "more": True}]


async def test_facts_that_json_can_hold(tmp_path: Path) -> None:
    """Texts, numbers, booleans, None, lists and dicts come back as they were."""
    facts = {"text": "ü\0\udcff", "numbers": [1, -2.5, 10**30], "more": {"a": [None, True]}}
    facts["\udcff"] = "a name that is no valid Unicode"
    await run(tmp_path / "run.db", [Remembers("a", facts)])
    assert entries(tmp_path / "run.db")["a"].facts == facts


@pytest.mark.parametrize("value", [object, {1, 2}, b"x", float("nan"), float("inf")], ids=repr)
@pytest.mark.parametrize("with_ledger", [True, False])
async def test_facts_that_json_cannot_hold(
    value: object, with_ledger: bool, tmp_path: Path
) -> None:
    """Any other fact is an error of the phase, with a ledger or without; others are kept."""
    operations = [Remembers("a", {"fact": value}), Remembers("b", {"fact": 1})]
    if with_ledger:
        report = await run(tmp_path / "run.db", operations)
    else:
        report = await run_phases(operations, limiter=1)
    assert_conserved(report)
    assert (report.completed, report.failed) == (1, 1)
    assert "fact 'fact' is " in str(report.errors[0])
    assert isinstance(report.errors[0].__cause__, TypeError)


async def test_remember_without_a_ledger(tmp_path: Path) -> None:
    """Without a ledger, facts are dropped."""
    report = await run_phases([Remembers("a", {"job": "1"})], limiter=1)
    assert report.completed == 1


async def test_facts_are_forgotten_before_another_attempt(tmp_path: Path) -> None:
    """A retry begins without facts; the ledger has the number of the retry."""
    seen: list[Any] = []

    class Twice(Remembers):
        async def prepare(self, channels: Channels) -> None:
            entry = entries(tmp_path / "run.db")["a"]
            seen.append((entry.attempt, dict(entry.facts)))

        async def monitor(self, channels: Channels) -> None:
            await on_disk(ledger)
            seen.append(entries(tmp_path / "run.db")["a"].attempt)
            if len(seen) < 4:
                raise OSError("again")

    async with open_ledger(tmp_path / "run.db") as ledger:
        operations = [Twice("a", {"job": "1"})]
        with no_backoff():
            report = await run_phases(
                operations, limiter=1, ledger=ledger, on_error=[Retry(2), Skip()]
            )
    assert_conserved(report)
    assert (report.completed, report.retried) == (1, 1)
    assert [each if isinstance(each, int) else each[1] for each in seen] == [{}, 1, {}, 2]
    assert entries(tmp_path / "run.db")["a"].facts == {"job": "1"}
    assert entries(tmp_path / "run.db")["a"].error is None


async def test_facts_are_forgotten_when_it_is_done_again(tmp_path: Path) -> None:
    """An operation that failed before and is done again begins without facts."""

    class Fails(Remembers):
        async def monitor(self, channels: Channels) -> None:
            raise OSError("no")

    path = tmp_path / "run.db"
    await run(path, [Fails("a", {"job": "1"})])
    assert entries(path)["a"].facts == {"job": "1"}
    await run(path, [Noted("a", [])], retry_failed=True)
    assert entries(path)["a"].facts == {}


async def test_timeouts_hold_with_a_ledger(tmp_path: Path) -> None:
    """A phase that takes too long fails, and the ledger says why."""

    class Slow(Noted):
        async def phase(self, name: str) -> None:
            if name == "work":
                await trio.sleep_forever()

    report = await run(tmp_path / "run.db", [Slow("a", [])], timeouts=PhaseTimeouts(work=0.001))
    assert report.failed == 1
    assert "TooSlowError" in str(entries(tmp_path / "run.db")["a"].error)


async def test_preparing_has_tokens_of_its_own_with_a_ledger(tmp_path: Path) -> None:
    """With a ``prepare_limiter``, preparing runs ahead of the work, as without a ledger."""
    work, prepare, log = Limiter("work", 1), Limiter("prepare", 2), list[float]()

    class Looks(Noted):
        async def phase(self, name: str) -> None:
            if name in ("prepare", "work"):
                log.append(prepare.borrowed_tokens if name == "prepare" else work.borrowed_tokens)

    async with open_ledger(tmp_path / "run.db") as ledger:
        operations = [Looks(name, []) for name in "abc"]
        report = await run_phases(operations, limiter=work, prepare_limiter=prepare, ledger=ledger)
    assert_conserved(report)
    assert report.completed == 3
    assert len(log) == 6
    assert all(log)


async def test_a_closed_ledger_is_refused(tmp_path: Path) -> None:
    """A ledger can be used only inside its block; after it, every call says so at once."""
    async with open_ledger(tmp_path / "run.db") as ledger:
        pass
    with pytest.raises(LedgerError, match="is closed: stay in its block"):
        await ledger.interrupted()
    with pytest.raises(LedgerError, match="is closed"):
        await run_phases([Noted("a", [])], limiter=1, ledger=ledger)
