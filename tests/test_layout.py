"""The shape of the package: its floors, the size of its parts, and what it imports.

A module imports only from floors below its own, so that the reading order of the package
is the order of the table, and any part can be understood without those above it.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_turnstile

PACKAGE = Path(trio_turnstile.__file__).parent

FLOORS = (
    {"_checks", "_errors", "_events", "_facade", "_order"},
    {
        "_throttle",
        "limits",
        "_history",
        "_scalable",
        "_grace",
        "_batches",
        "_budget",
        "_control",
        "_service",
    },
    {"_regulator", "_sources", "_verdicts", "_account", "_jsonlines"},
    {"_governor", "_sampling"},
    {"_limiter", "_rate"},
    {"_turnstile", "_lease"},
    {"_stage", "_steps", "_monitors"},
    {"_manager", "_attempts", "_inbox", "_processors"},
    {"_phases", "_step_run"},
    {"_segment", "_batching"},
    {"_flow"},
    {"_pipeline"},
    {"__init__", "testing"},
    {"integrations", "cli"},
)
"""A new module is entered here, on the lowest floor that its imports allow."""

FREE_INSIDE = {"limits", "testing", "cli"}
"""Packages whose modules may import one another."""

FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix().removesuffix(".py")


def unit(name: str) -> str:
    """Return the entry of the table that a module, by its path, belongs to."""
    return name.split("/")[0]


def imported(path: Path) -> Iterator[str]:
    """Give the modules of this package that one imports, each by its path in the package."""
    here = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            targets = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for target in targets:
            if target[0] == PACKAGE.name:
                yield found(target[1:])


def found(parts: list[str]) -> str:
    """Return the module that a dotted path leads to; what is left of it is a name inside."""
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.with_suffix(".py").exists():
            return "/".join(parts)
        if path.is_dir():
            return "/".join([*parts, "__init__"])
        parts = parts[:-1]
    return "__init__"


def may_import(importer: str, target: str) -> bool:
    inside = unit(importer)
    if inside == unit(target) and inside in FREE_INSIDE:
        return True
    return FLOOR_OF[unit(target)] < FLOOR_OF[inside]


def test_every_module_has_its_floor() -> None:
    """No module is forgotten in the table."""
    assert {unit(name_of(path)) for path in MODULES} <= FLOOR_OF.keys()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_floors_below_its_own(path: Path) -> None:
    """At the head, in functions, and for types alike."""
    name = name_of(path)
    targets = set(imported(path))
    assert {target for target in targets if not may_import(name, target)} == set()


def test_the_imports_are_really_read() -> None:
    """Relative and absolute ones, of modules and of names in them, of packages too."""
    assert set(imported(PACKAGE / "_limiter.py")) >= {"_checks", "_regulator", "limits/__init__"}
    assert set(imported(PACKAGE / "limits" / "__init__.py")) >= {"limits/_protocol", "limits/_knee"}
    assert not may_import("_checks", "_errors")
    assert not may_import("_regulator", "_limiter")
    assert not may_import("_stage", "__init__")
    assert may_import("_limiter", "limits/__init__")
    assert may_import("cli/_units", "__init__")
    assert not may_import("cli/_units", "integrations/one")
    assert not may_import("integrations/one", "integrations/two")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_long(path: Path) -> None:
    """350 lines at most: what is longer has more than one thing to tell."""
    lines = len(path.read_text().splitlines())
    assert lines <= 350


def lines_of_bodies(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            if body:
                yield (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_function_bodies_are_short() -> None:
    """Half of them are under eight lines, docstrings aside."""
    bodies = [lines for path in MODULES for lines in lines_of_bodies(path)]
    assert statistics.median(bodies) < 8


def test_importing_it_brings_in_nothing_but_trio_and_attrs() -> None:
    """In a fresh interpreter: what trio and attrs need themselves, and the standard library."""
    code = (
        "import sys, trio, attrs; before = set(sys.modules); import trio_turnstile; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    brought = set(run.stdout.split())
    assert "trio_turnstile" in brought
    assert brought - set(sys.stdlib_module_names) == {"trio_turnstile"}
