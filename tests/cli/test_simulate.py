"""``turnstile simulate``: tables and plots."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from trio_turnstile.limits import KneeLimit
from trio_turnstile.simulation import COLD_START, HALVED, simulate

pytestmark = pytest.mark.slow


def test_the_figures_are_those_of_the_simulator(call: Any) -> None:
    """The row has throughput, p99, refusals, score and settling times of the simulation."""
    result = simulate(KneeLimit(HALVED.initial), HALVED, seed=1)
    settled = ", ".join(f"{time:.1f}" for time in result.settled if time is not None)

    run = call("simulate", "--scenario", "B", "--seeds", 1)

    assert run.err == ""
    assert run.lines[0].startswith("one seed ")
    assert run.lines[1].split() == [
        *("B", "halve,", "double"),
        f"{result.throughput:.1%}",
        f"{result.p99_ratio:.2f}",
        f"{result.rejected:.1%}",
        f"{result.score:.1f}",
        *settled.split(),
    ]
    assert run.lines[2] == f"score: overall {result.score:.1f}, worst {result.score:.1f}"


def test_figures_are_those_of_the_worst_seed(call: Any) -> None:
    """With several seeds each figure is the worst of them."""
    results = [simulate(KneeLimit(1), COLD_START, seed=seed) for seed in (1, 2)]

    _, row, score, *_ = call("simulate", "--scenario", "J", "--seeds", 2).lines

    assert f" {min(r.throughput for r in results):.1%} " in row
    assert f" {max(r.p99_ratio for r in results):.2f} " in row
    assert score.endswith(f"worst {min(r.score for r in results):.1f}")


def test_the_exit_status_is_0_whatever_the_policy_reaches(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that never settles is no failure of the command."""
    monkeypatch.setattr(KneeLimit, "limit", property(lambda self: 5.0))
    run = call("simulate", "--scenario", "j", "--seeds", 1)
    assert run.lines[1].endswith(" never")
    assert run.status == 0


@pytest.mark.slow
def test_all_scenarios_are_played_in_order(call: Any) -> None:
    """There is a row for each of A to P, then the scores."""
    run = call("simulate", "--seeds", 1)
    assert [line[0] for line in run.lines[1:17]] == list("ABCDEFGHIJKLMNOP")
    assert run.lines[17].startswith("score: overall 9")
    assert len(run.lines) == 18


@pytest.mark.parametrize("policy", ["aimd", "vegas", "gradient2", "vector"])
def test_other_policies_have_the_same_table(call: Any, policy: str) -> None:
    """The table has a header, a row and the scores."""
    run = call("simulate", "--policy", policy, "--scenario", "J", "--seeds", 1)
    assert len(run.lines) == 3
    assert run.status == 0


def test_without_a_scenario_of_the_score_there_is_none(call: Any) -> None:
    """The scenarios I and K to P do not count for the score."""
    assert "score:" not in call("simulate", "--scenario", "N", "--seeds", 1).out


def test_all_policies_are_compared(call: Any) -> None:
    """There is a column for each policy: throughput, p99, and refusals if there are some."""
    run = call("simulate", "--policy", "all", "--scenario", "J,L", "--seeds", 1)
    assert run.lines[1].split()[2:] == ["knee", "aimd", "vegas", "gradient2", "vector"]
    ours = simulate(KneeLimit(1), COLD_START, seed=1)
    assert run.lines[2].split()[3] == f"{100 * ours.throughput:.0f}/{ours.p99_ratio:.2f}"
    assert " -1 " in run.lines[3]
    assert [line.split()[:2] for line in run.lines[4:6]] == [
        ["score:", "overall"],
        ["score:", "worst"],
    ]
    assert len(run.lines[5].split()) == 2 + 5
    assert len(run.lines) == 6


def test_a_comparison_without_a_score(call: Any) -> None:
    """If no scenario counts for the score, the table ends with the scenarios."""
    run = call("simulate", "--policy", "all", "--scenario", "N", "--seeds", 1)
    assert run.lines[2].startswith("N batch server")
    assert "score" not in run.out


@pytest.mark.parametrize("scenarios", ["J", "I,J,N"])
def test_limits_are_drawn_against_the_capacity(call: Any, here: Path, scenarios: str) -> None:
    """There is a panel for each scenario, in the format of the file name."""
    run = call("simulate", "--scenario", scenarios, "--seeds", 1, "--plot", "limits.svg")
    assert run.status == 0
    groups = ET.parse(here / "limits.svg").iter("{http://www.w3.org/2000/svg}g")
    panels = [group for group in groups if group.get("id", "").startswith("axes_")]
    assert len(panels) == len(scenarios.split(","))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenario", "B,Z"], "--scenario: there is no 'Z'; give letters from A to P"),
        (["--plot", "limits.docx"], "--plot: 'limits.docx' must end with one of "),
        (["--plot", "nowhere/limits.png"], "--plot: cannot write to 'nowhere'"),
        (["--policy", "magic"], "magic"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_wrong_options_are_named_before_anything_is_played(
    call: Any, here: Path, options: list[str], message: str
) -> None:
    """The exit status is 2, and nothing is simulated."""
    run = call("simulate", *options)
    assert message in run.err
    assert (run.status, run.out) == (2, "")


def test_without_matplotlib_there_are_tables_and_no_plots(
    call: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only --plot needs matplotlib, and the message says how to install it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run = call("simulate", "--scenario", "J", "--seeds", 1, "--plot", "limits.png")
    assert "--plot: matplotlib is missing; pip install 'trio-turnstile[plot]'" in run.err
    assert run.status == 2
    assert call("simulate", "--scenario", "J", "--seeds", 1).status == 0


def test_a_reader_may_leave(spawn: Any) -> None:
    """A closed pipe ends the command with 141 and without a message."""
    reader, writer = os.pipe()
    os.close(reader)
    command = spawn("simulate", "--scenario", "J", "--seeds", 1, stdout=writer)
    os.close(writer)
    run = command.finish()
    assert (run.status, run.err) == (128 + signal.SIGPIPE, "")


@pytest.mark.slow
def test_the_same_command_prints_the_same(spawn: Any, here: Path) -> None:
    """Two processes print the same table; the plot is a PNG file."""
    options = ("simulate", "--scenario", "J", "--seeds", 1, "--plot", "limits.png")
    first, second = (spawn(*options, cwd=here).finish() for _ in range(2))
    assert first == second
    assert first.status == 0
    assert (here / "limits.png").read_bytes().startswith(b"\x89PNG")
