"""The shape of the package: its wings, the size of its parts, and what it imports.

An import line says through which wall it goes. Between wings the directions are those of
the table `MAY_IMPORT`; inside a wing any order will do that has no circle.
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
"""For each wing, the wings that it may import from. A new wing is entered here."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix().removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module, which most of the tests here look at."""
    return ast.parse(path.read_text())


def wing(name: str) -> str:
    """Return the wing that a module, by its path in the package, belongs to."""
    return name.split("/")[0]


def imported(path: Path) -> Iterator[str]:
    """Give the modules of this package that one imports, each by its path in the package."""
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
    inside, outside = wing(importer), wing(target)
    return inside == outside or outside in MAY_IMPORT[inside]


def imports_inside(name: str) -> dict[str, set[str]]:
    """Return what each module of a wing imports from the same wing, the head of it aside."""
    head = f"{name}/__init__"
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        importer = name_of(path)
        if wing(importer) == name and importer != head:
            targets = {target for target in imported(path) if wing(target) == name}
            graph[importer] = targets - {head, importer}
    return graph


def test_every_wing_is_in_the_table() -> None:
    """No module is forgotten, and no wing is listed that is not there."""
    assert {wing(name_of(path)) for path in MODULES} == MAY_IMPORT.keys()


def test_the_design_page_names_every_wing() -> None:
    """Each has a row in its table, which says what the wing is for."""
    page = Path(__file__).parent.with_name("docs").joinpath("design.rst").read_text()
    rows = "".join(line for line in page.splitlines() if line.startswith("   * - "))
    assert [name for name in MAY_IMPORT if f"``{name}``" not in rows] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_through_the_walls_of_the_table(path: Path) -> None:
    """At the head, in functions, and for types alike."""
    name = name_of(path)
    assert {target for target in imported(path) if not may_import(name, target)} == set()


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_no_circle_inside_a_wing(name: str) -> None:
    """The modules of a wing can be read in an order in which each needs only those before."""
    graphlib.TopologicalSorter(imports_inside(name)).prepare()


def test_no_circle_between_wings() -> None:
    """The table itself has a reading order."""
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_the_imports_are_really_read() -> None:
    """Relative and absolute ones, of modules and of names in them, of packages too."""
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
    """Two modules that need each other have no reading order."""
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
    """Parts of a wing may use each other's underscore names; other wings may not."""
    assert set(reaches(path)) <= private_names(wing(name_of(path)))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_underscore_name_is_imported_from_another_wing(path: Path) -> None:
    """Underscore modules are the walls; what is imported from them has a plain name."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert not [alias.name for alias in node.names if alias.name.startswith("_")]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_long(path: Path) -> None:
    """350 lines at most: what is longer has more than one thing to tell."""
    lines = len(path.read_text().splitlines())
    assert lines <= 350


def lines_of_bodies(path: Path) -> Iterator[int]:
    for node in ast.walk(parsed(path)):
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
    brought = {name.split(".")[0] for name in brought_by("from trio_turnstile import *")}
    assert "trio_turnstile" in brought
    assert brought - set(sys.stdlib_module_names) == {"trio_turnstile"}


def test_importing_it_leaves_what_is_not_used_for_later() -> None:
    """Nothing comes before a name is used; the front ends and the policies come with theirs."""
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
    """Return the modules that it imports in an interpreter that has trio and attrs already."""
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
