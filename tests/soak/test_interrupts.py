"""Ctrl-C at many points of the engine, or at every one, in runs of a few kinds."""

from __future__ import annotations

from itertools import count

import pytest

from testkit.interrupts import Event
from testkit.schedules import Happening, Strike, play
from testkit.soak import stride
from testkit.trials import PhasesTrial, PipelineTrial

RUNS: list[tuple[type[PipelineTrial | PhasesTrial], int]] = [
    (PipelineTrial, 3),
    (PipelineTrial, 25),
    (PipelineTrial, 39),
    (PhasesTrial, 3),
    (PhasesTrial, 17),
    (PhasesTrial, 20),
]
"""Short schedules that reach much of the engine."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(("event", "every"), [("line", stride(397)), ("opcode", stride(3989))])
@pytest.mark.parametrize(("kind", "seed"), RUNS)
def test_ctrl_c_at_any_point(
    kind: type[PipelineTrial | PhasesTrial], seed: int, event: Event, every: int
) -> None:
    """Wherever it strikes, the interrupt comes out, the books balance, and nothing is left open."""
    struck: list[Happening] = []
    for number in count(1, every):
        struck.append(play(kind(seed, strike=Strike(number, event))))
        if not struck[-1].struck:
            break
    assert len(struck) > 1
