"""Random schedules: no hang, no wrong books, no token lost, no wrong shape of what comes out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testkit.schedules import Schedule

FACTOR = int(os.environ.get("TURNSTILE_SOAK", "1"))
"""How many times as many trials as in the default suite."""
CHUNK = 25
"""How many seeds are one test."""


@contextmanager
def told(seed: int) -> Iterator[None]:
    """Say in an error which seed it is of."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the seed is {seed}")
        raise


@pytest.mark.parametrize("first", range(0, 200 * FACTOR, CHUNK))
def test_random_schedules(first: int) -> None:
    """A seed that fails can be played alone: ``Schedule(seed).play()``."""
    for seed in range(first, first + CHUNK):
        with told(seed):
            Schedule(seed).play()


def test_schedules_end_in_every_way() -> None:
    """So that what is asserted after each end is asserted at all."""
    ends = {Schedule(seed).play() for seed in range(1000, 1080)}
    assert ends == {"ended", "cancelled", "aborted", "interrupt"}
