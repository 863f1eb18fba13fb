"""How many trials to run: a few by default, and many on request."""

from __future__ import annotations

import os

FULL = 100
"""The factor of the session ``soak``. With this factor or more, every possible point is tried."""

FACTOR = max(1, int(os.environ.get("TURNSTILE_SOAK") or 1))
"""The number of trials to run, as a multiple of the default."""

SEED = os.environ.get("TURNSTILE_SEED")
"""The seed of the only trial to run, if one is given."""


def seeds(count: int, *, part: int = 1) -> list[range]:
    """Return the seeds of ``count`` trials, times the factor, in parts of ``part`` seeds.

    The parts are the parameters of a test. One test for each seed would make too many names
    to read, and one test for all seeds could not run in two processes.
    """
    if SEED is not None:
        return [range(int(SEED), int(SEED) + 1)]
    end = count * FACTOR
    return [range(begin, min(begin + part, end)) for begin in range(0, end, part)]


def name_of(part: range) -> str:
    """Return the name of a part of the seeds, for the identifiers of tests."""
    return f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0])


def stride(usual: int) -> int:
    """Return the distance between the points to try; 1, for every point, at the full factor."""
    return 1 if FACTOR >= FULL else max(1, usual // FACTOR)
