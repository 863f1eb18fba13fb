"""How many trials to run: a few in every run of the tests, many where that is asked for."""

from __future__ import annotations

import os

FULL = 100
"""The factor of the session ``soak``: from it on, nothing is left out that can be tried."""

FACTOR = max(1, int(os.environ.get("TURNSTILE_SOAK") or 1))
"""How many times as many trials to run as by default."""

SEED = os.environ.get("TURNSTILE_SEED")
"""The seed of the one trial to run, if that is asked for."""


def seeds(count: int, *, part: int = 1) -> list[range]:
    """Return the seeds of so many trials, times the factor, in parts of so many.

    The parts are the parameters of a test: neither a test for each seed, which would be more
    names than anybody reads, nor one test for all, which could not run in two processes.
    """
    if SEED is not None:
        return [range(int(SEED), int(SEED) + 1)]
    end = count * FACTOR
    return [range(begin, min(begin + part, end)) for begin in range(0, end, part)]


def name_of(part: range) -> str:
    """Return the name of a part of the seeds, for the identifiers of tests."""
    return f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0])


def stride(usual: int) -> int:
    """Return every how many-th point to try: every one at the full factor."""
    return 1 if FACTOR >= FULL else max(1, usual // FACTOR)
