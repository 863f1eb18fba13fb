"""What the tests of the simulation share: runs of `KneeLimit`, and the benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from trio_turnstile.limits import KneeLimit
from trio_turnstile.simulation import Result, Scenario, simulate

# The benchmarks must be importable even if the tests run against an installed trio_turnstile. With
# the checkout on sys.path, its trio_turnstile would be imported in place of the installed one.
_FOLDER = Path(__file__).parents[2] / "benchmarks"

if "benchmarks" not in sys.modules:
    _spec = spec_from_file_location(
        "benchmarks", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["benchmarks"] = _module = module_from_spec(_spec)
    _spec.loader.exec_module(_module)


@cache
def _play(scenario: Scenario, seed: int) -> Result:
    return simulate(KneeLimit(scenario.initial), scenario, seed=seed)


@pytest.fixture(scope="session")
def knee() -> Callable[[Scenario, int], Result]:
    """A function that plays a scenario with a `KneeLimit` and a seed, once for all tests."""
    return _play
