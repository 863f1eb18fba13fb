"""The shape of the package: its wings, the size of its parts, and what it imports.

An import line shows which wall it crosses. Between wings, imports may go only as the table
`MAY_IMPORT` says; inside a wing, they may go in any order without a circle.
"""

from __future__ import annotations

import ast
import graphlib
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import trio_turnstile

PACKAGE = Path(trio_turnstile.__file__).parent

_LIMITS = {"_texts", "_errors", "limits"}
_BASE = _LIMITS | {"_util"}
_ENGINE = _BASE | {"_limiting", "_engine"}
_FACADE = _ENGINE | {"_phases", "_pipelines", "_ledger", "__init__"}

MAY_IMPORT: dict[str, set[str]] = {
    "_texts": set(),
    "_errors": {"_texts"},
    "limits": set(),
    "_util": {"_texts", "_errors"},
    "simulation": {"_util", "limits"},
    "_limiting": _BASE,
    "_engine": _BASE | {"_limiting"},
    "_phases": _ENGINE,
    "_pipelines": _ENGINE,
    "_ledger": _ENGINE,
    "__init__": _ENGINE | {"_phases", "_pipelines", "_ledger"},
    "clusters": {"__init__", "_util"},
    "testing": _FACADE,
    "integrations": {"__init__"},
    "cli": {"__init__", "clusters", "integrations", "limits", "simulation"},
}
"""For each wing, the wings that it may import from. A new wing must be added here."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix().removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module, which most of these tests look at."""
    return ast.parse(path.read_text())


def wing(name: str) -> str:
    """Return the wing that a module, by its path in the package, belongs to."""
    return name.split("/")[0]


def imported(path: Path) -> Iterator[str]:
    """Give the modules of this package that a module imports, each by its path in the package."""
    here = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(parsed(path)):
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
    """Return the module that a dotted path leads to; the rest of the path is a name inside."""
    while parts:
        path = PACKAGE.joinpath(*parts)
        if path.with_suffix(".py").exists():
            return "/".join(parts)
        if path.is_dir():
            return "/".join([*parts, "__init__"])
        parts = parts[:-1]
    return "__init__"


def may_import(importer: str, target: str) -> bool:
    inside, outside = wing(importer), wing(target)
    return inside == outside or outside in MAY_IMPORT[inside]


def imports_inside(name: str) -> dict[str, set[str]]:
    """Return what each module of a wing, except its head, imports from the same wing."""
    head = f"{name}/__init__"
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        importer = name_of(path)
        if wing(importer) == name and importer != head:
            targets = {target for target in imported(path) if wing(target) == name}
            graph[importer] = targets - {head, importer}
    return graph


def test_every_wing_is_in_the_table() -> None:
    """No module is forgotten, and no wing is listed that does not exist."""
    assert {wing(name_of(path)) for path in MODULES} == MAY_IMPORT.keys()


def test_the_design_page_names_every_wing() -> None:
    """Each wing has a row in the table of the page, which says what the wing is for."""
    page = Path(__file__).parent.with_name("docs").joinpath("design.rst").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("   * - "))
    assert [name for name in MAY_IMPORT if f"``{name}``" not in rows] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_through_the_walls_of_the_table(path: Path) -> None:
    """Imports at the head, in functions, and for types alone all keep to the table."""
    name = name_of(path)
    assert {target for target in imported(path) if not may_import(name, target)} == set()


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_no_circle_inside_a_wing(name: str) -> None:
    """The modules of a wing can be read in an order in which each needs only earlier ones."""
    graphlib.TopologicalSorter(imports_inside(name)).prepare()


def test_no_circle_between_wings() -> None:
    """The table itself can be read in such an order."""
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_the_imports_are_really_read() -> None:
    """The test finds relative and absolute imports, of modules, names in them, and packages."""
    limiter = set(imported(PACKAGE / "_limiting" / "limiter.py"))
    assert limiter >= {"_util", "_limiting/actuator", "limits/__init__"}
    assert set(imported(PACKAGE / "limits" / "__init__.py")) >= {"limits/_protocol"}
    assert not may_import("_errors", "_util")
    assert not may_import("_limiting/limiter", "_engine/pool")
    assert not may_import("_phases/runner", "_pipelines/run")
    assert not may_import("_engine/pool", "__init__")
    assert not may_import("cli/_units", "_engine/pool")
    assert may_import("_engine/pool", "_limiting/rate")
    assert may_import("cli/_units", "__init__")


def test_a_circle_would_be_seen() -> None:
    """Two modules that need each other cannot be read in such an order."""
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


@cache
def private_names(name: str) -> set[str]:
    """Return the underscore names that the modules of a wing define."""
    names: set[str] = set()
    for path in MODULES:
        if wing(name_of(path)) != name:
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def reaches(path: Path) -> Iterator[str]:
    """Give the underscore attributes of other objects that a module uses."""
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if not own and not node.attr.endswith("__"):
            yield node.attr


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_reaches_through_a_wall(path: Path) -> None:
    """Modules of a wing may use each other's underscore names; other wings may not."""
    assert set(reaches(path)) <= private_names(wing(name_of(path)))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_underscore_name_is_imported_from_another_wing(path: Path) -> None:
    """Underscore modules are the walls; the names imported from them have no underscore."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_long(path: Path) -> None:
    """The bound is 350 lines, because a longer module does more than one thing."""
    lines = len(path.read_text().splitlines())
    assert lines <= 350


def lines_of_bodies(path: Path) -> Iterator[int]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[ast.get_docstring(node) is not None :]
            if body:
                yield (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_function_bodies_are_short() -> None:
    """Half of them have under eight lines, not counting docstrings."""
    bodies = [lines for path in MODULES for lines in lines_of_bodies(path)]
    assert statistics.median(bodies) < 8


def test_importing_it_brings_in_nothing_but_trio_and_attrs() -> None:
    """In a fresh interpreter only the standard library and what trio and attrs need come along."""
    brought = {name.split(".")[0] for name in brought_by("from trio_turnstile import *")}
    assert "trio_turnstile" in brought
    assert brought - set(sys.stdlib_module_names) == {"trio_turnstile"}


def test_importing_it_leaves_what_is_not_used_for_later() -> None:
    """Front ends and policies are imported when one of their names is used."""
    assert brought_by("import trio_turnstile") == {"trio_turnstile"}
    brought = brought_by("from trio_turnstile import Limiter")
    wings = {wing(name.partition(".")[2]).split(".")[0] for name in brought}
    assert wings >= {"_limiting", "limits"}
    assert not wings & {"_engine", "_phases", "_pipelines"}
    assert "statistics" not in brought
    assert "trio_turnstile.limits._knee.policy" in brought_by(
        "from trio_turnstile.limits import KneeLimit"
    )
    assert "trio_turnstile._pipelines.run" in brought_by("from trio_turnstile import Producer")


def brought_by(statement: str) -> set[str]:
    """Return the modules that an import adds in an interpreter that has trio and attrs already."""
    code = (
        f"import sys, trio, attrs; before = set(sys.modules); {statement}; "
        "print(*set(sys.modules) - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())
