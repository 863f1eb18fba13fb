"""Runs with a ledger that are killed at random moments: nothing is lost or done again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from testkit.killed_runs import trial
from testkit.soak import FACTOR, FULL, name_of, seeds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL"),
]


@pytest.mark.parametrize("part", seeds(1), ids=name_of)
def test_a_run_that_is_killed_time_and_again(part: range, tmp_path: Path) -> None:
    """Each operation is done, and never again after it has ended, in whatever order they come.

    An interrupted operation is cleaned up before it is done again.
    """
    for seed in part:
        folder = tmp_path / str(seed)
        folder.mkdir()
        runs = trial(folder, operations=500, more=20, kills=4, seed=seed)
        # At most the work that was in flight at a kill is repeated, because it is not idempotent.
        assert sum(runs.works.values()) <= 580 + 4 * 84


@pytest.mark.skipif(FACTOR < FULL, reason="takes half a minute; TURNSTILE_SOAK=100 runs it")
def test_ten_thousand_operations_that_are_killed_twenty_times(tmp_path: Path) -> None:
    """Nothing is lost or repeated with as many operations as a batch may have, either."""
    runs = trial(tmp_path, operations=10_000, more=100, kills=20, seed=1)
    assert sum(runs.works.values()) <= 12_000 + 20 * 84
