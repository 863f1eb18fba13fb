"""Makes the benchmarks importable, also if the tests run against an installed package."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

# Only this package: with the whole checkout on sys.path, its trio_turnstile would be imported in
# place of the installed one.
_FOLDER = Path(__file__).parents[2] / "benchmarks"

if "benchmarks" not in sys.modules:
    _spec = spec_from_file_location(
        "benchmarks", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules["benchmarks"] = _module = module_from_spec(_spec)
    _spec.loader.exec_module(_module)
