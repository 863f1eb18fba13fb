"""What is installed, and what the files of the project say about it."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import trio_turnstile

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "trio_turnstile"
INSTALLED = Path(trio_turnstile.__file__).parent


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.endswith(".pyc")}


def test_all_of_the_source_is_installed() -> None:
    """Every module is installed, and ``py.typed``, without which type checkers see no types."""
    assert files(INSTALLED) == files(SOURCE)
    assert "py.typed" in files(INSTALLED)


def test_the_checkout_is_not_tested_in_place_of_the_wheel() -> None:
    """If the wheel is to be tested, the tests import the wheel."""
    installed = "site-packages" in INSTALLED.parts and not INSTALLED.is_relative_to(SOURCE)
    assert installed or "TURNSTILE_INSTALLED" not in os.environ


def test_the_version_is_told_in_one_place() -> None:
    """The distribution has the version that the package states."""
    assert version("trio-turnstile") == trio_turnstile.__version__


def pins() -> dict[str, str]:
    """Return the versions that the project file pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return dict(pin.split("==") for pin in project["optional-dependencies"]["lint"])


def test_pre_commit_runs_the_pinned_linters() -> None:
    """A commit is checked by the same versions as a build."""
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    hooks = dict(re.findall(r"repo: \S+/(\S+)\n\s+rev: v?(\S+)", text))
    assert hooks["ruff-pre-commit"] == pins()["ruff"]
    assert hooks["codespell"] == pins()["codespell"]
    assert hooks["sphinx-lint"] == pins()["sphinx-lint"]
