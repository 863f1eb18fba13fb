"""Runs with a ledger and an allowance or weights: what the next run does."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from testkit.ledger_pipelines import aborted, outcomes
from testkit.ledger_pipelines import run as run_pipeline
from testkit.ledgers import Noted, copied, on_disk, run
from trio_turnstile import (
    Aborted,
    Allowance,
    Budget,
    BudgetSpent,
    Channels,
    Consumer,
    Limiter,
    Pipeline,
    Producer,
    Report,
    open_ledger,
    run_phases,
)
from trio_turnstile.testing import assert_conserved


async def test_what_could_not_be_paid_is_done_by_the_next_run(tmp_path: Path) -> None:
    """A spent allowance ends the run; with a new one, the rest is done, each item once."""
    done, path = list[str](), tmp_path / "ledger"

    async def call(item: str) -> None:
        await trio.lowlevel.checkpoint()
        done.append(item)

    def batch(dollars: int) -> Pipeline:
        budget = Budget(dollars=Allowance(dollars))
        cost = {"dollars": 1.0}
        return Producer("abcdefgh") | Consumer(call, rate=budget, cost=lambda _: cost)

    error = await aborted(batch(3), path)
    assert isinstance(error.exceptions[0].__cause__, BudgetSpent)
    assert len(done) == 3
    assert list(outcomes(path).values()).count("completed") == 3
    await aborted(batch(2), path)
    await run_pipeline(batch(100), path)
    assert sorted(done) == list("abcdefgh")


async def test_an_operation_that_could_not_be_paid_is_done_by_the_next_run(tmp_path: Path) -> None:
    """The operation was not begun, so it is not cleaned up, and the next run does all of it."""
    log, path = list[str](), tmp_path / "run.db"

    async def work(dollars: int) -> Report:
        return await run(
            path,
            [Noted(name, log) for name in "abcd"],
            rate=Budget(dollars=Allowance(dollars)),
            cost=lambda _: {"dollars": 1.0},
        )

    with pytest.raises(Aborted) as caught:
        await work(2)
    assert_conserved(caught.value.report)
    assert isinstance(caught.value.exceptions[0].__cause__, BudgetSpent)
    assert len({line[0] for line in log}) == 2
    report = await work(2)
    assert (report.completed, report.skipped) == (2, 2)
    assert len(log) == len(set(log)) == 16


async def test_an_operation_that_is_too_wide_is_done_by_a_run_with_more_tokens(
    tmp_path: Path,
) -> None:
    """An operation that is too wide was not begun, so it is not cleaned up."""
    log = list[str]()
    for tokens in (2, 4):
        async with open_ledger(tmp_path / "run.db") as ledger:
            report = await run_phases([Noted("a", log)], limiter=tokens, weight=3, ledger=ledger)
        assert_conserved(report)
        assert report.failed == (tokens == 2)
    assert log == ["a prepare", "a work", "a monitor", "a cleanup"]


async def test_an_operation_that_comes_to_be_too_wide_is_cleaned_up_once(tmp_path: Path) -> None:
    """The operation is cleaned up after a kill; the next run that has room then does it."""

    class Interrupted(Noted):
        async def phase(self, name: str) -> None:
            await super().phase(name)
            if name == "work":
                await on_disk(ledger)
                copied(ledger.path, tmp_path / "killed.db")

    class Lowers(Noted):
        async def cleanup(self, channels: Channels) -> None:
            await super().cleanup(channels)
            limiter.total_tokens = 2

    async with open_ledger(tmp_path / "whole.db") as ledger:
        await run_phases([Interrupted("a", [])], limiter=1, ledger=ledger)
    limiter, log = Limiter("work", 4), list[str]()
    async with open_ledger(tmp_path / "killed.db") as ledger:
        report = await run_phases([Lowers("a", log)], limiter=limiter, weight=3, ledger=ledger)
    assert_conserved(report)
    assert (report.failed, log) == (1, ["a cleanup"])
    async with open_ledger(tmp_path / "killed.db") as ledger:
        report = await run_phases([Noted("a", log)], limiter=4, weight=3, ledger=ledger)
    assert (report.completed, len(log)) == (1, 5)
