"""``turnstile run`` ended by signals at random moments: nothing runs on, no line is torn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from testkit.kills import kill, kill_plan
from testkit.soak import name_of, seeds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for what is left"),
]


@pytest.mark.parametrize("part", seeds(6, part=3), ids=name_of)
def test_signals_at_random_moments(part: range, tmp_path: Path) -> None:
    """The command ends with the documented status, and leaves whole lines and no processes."""
    for seed in part:
        folder = tmp_path / str(seed)
        folder.mkdir()
        plan = kill_plan(seed)
        try:
            kill(plan, folder).check()
        except BaseException as error:
            error.add_note(f"to try it alone: TURNSTILE_SEED={seed}; it is {plan}")
            raise
