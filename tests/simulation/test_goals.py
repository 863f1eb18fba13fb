"""``python -m benchmarks.goals``: the figures that `KneeLimit` must reach before a release."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks import goals
from trio_turnstile.limits import KneeLimit
from trio_turnstile.simulation import Result, Scenario


def test_goals_of_the_scenarios_that_were_played(capsys: pytest.CaptureFixture[str]) -> None:
    """Each goal has a line with the worst figure, and the exit status is 0 if all are reached."""
    assert goals.main(["--scenarios", "J", "--seeds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "ok      throughput in J",
        "ok      settled from 1 to 100 in J",
        "ok      score in J",
    ]


def test_a_missed_goal_sets_the_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that stays at 5 misses the goals, and the exit status is 1."""
    monkeypatch.setattr(KneeLimit, "limit", property(lambda self: 5.0))
    assert goals.main(["--scenarios", "J", "--seeds", "1"]) == 1
    out = capsys.readouterr().out
    assert "MISSED  throughput in J: 5." in out
    assert "MISSED  settled from 1 to 100 in J: inf s, the goal is <= 8.0 s" in out


@pytest.mark.slow
def test_the_overall_score_is_a_goal_once_all_were_played(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    knee: Callable[[Scenario, int], Result],
) -> None:
    """With seed 1 all goals are reached, in runs that the tests of the gate have played already."""
    monkeypatch.setattr(goals, "simulate", lambda _, scenario, *, seed: knee(scenario, seed))
    assert goals.main(["--seeds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(goals.GOALS) + 1
    assert lines[-1].startswith("ok      score overall: 9")
