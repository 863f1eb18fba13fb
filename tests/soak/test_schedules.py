"""Random schedules: whatever happens to a run, the rules that hold after every run hold."""

from __future__ import annotations

import pytest

from testkit.schedules import Happening, play, tally
from testkit.soak import name_of, seeds
from testkit.trials import PhasesTrial, PipelineTrial, trial_of

ENOUGH = 100
"""Among so many schedules, every way to end occurs."""


def played(part: range) -> list[Happening]:
    return [play(trial_of(seed)) for seed in part]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("part", seeds(100, part=100), ids=name_of)
def test_what_must_hold_after_every_run_holds(part: range) -> None:
    """Nothing hangs, leaks, is lost or is counted twice, and the run ends in a documented way."""
    happenings = played(part)
    if len(part) < ENOUGH:
        return
    ends = tally(happenings)
    for ending in ("itself: report", "itself: aborted", "drain: report", "deadline: report"):
        assert ends[ending]
    for ending in ("cancel: report", "outer: cancelled", "press: interrupted", "close: aborted"):
        assert ends[ending]
    assert ends["trace: interrupted"] > 1
    seen = set[str]().union(*(each.kinds for each in happenings))
    assert seen >= {"withheld", "policy", "paused", "resumed", "signal", "manual", "SourceError"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PipelineTrial, PhasesTrial])
def test_a_schedule_follows_from_its_seed(kind: type[PipelineTrial | PhasesTrial]) -> None:
    """A schedule played again ends the same way, so the seed of a failure can be used."""

    def course(seed: int) -> tuple[object, ...]:
        trial = kind(seed, ending="deadline")
        happening = play(trial)
        steps = [str(letter) for letter in trial.letters]
        return happening, trial.calls, steps, str(trial.aborted)

    assert [course(seed) for seed in range(10)] == [course(seed) for seed in range(10)]
