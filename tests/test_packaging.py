"""What is installed, and what the project's files say of it."""

from __future__ import annotations

import os
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import trio_turnstile

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "trio_turnstile"
INSTALLED = Path(trio_turnstile.__file__).parent


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {name for name in found if not name.endswith(".pyc")}


def test_all_of_the_source_is_installed() -> None:
    """Every module, and ``py.typed``, without which type checkers would see no types."""
    assert files(INSTALLED) == files(SOURCE)
    assert "py.typed" in files(INSTALLED)


@pytest.mark.skipif("TURNSTILE_INSTALLED" not in os.environ, reason="the checkout is tested")
def test_the_installed_package_is_tested() -> None:
    """If the tests are told to, they do not import the checkout in its place."""
    assert not INSTALLED.is_relative_to(ROOT / "trio_turnstile")
    assert "site-packages" in INSTALLED.parts


def test_the_version_is_told_in_one_place() -> None:
    """The distribution has the version that the package says."""
    assert version("trio-turnstile") == trio_turnstile.__version__


def pins() -> dict[str, str]:
    """Return the versions that the project's own file pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return dict(pin.split("==") for pin in project["optional-dependencies"]["lint"])


def test_pre_commit_runs_the_pinned_linters() -> None:
    """A commit is checked by the same versions as a build."""
    text = (ROOT / ".pre-commit-config.yaml").read_text()
    hooks = dict(re.findall(r"repo: \S+/(\S+)\n\s+rev: v?(\S+)", text))
    assert hooks["ruff-pre-commit"] == pins()["ruff"]
    assert hooks["codespell"] == pins()["codespell"]
    assert hooks["sphinx-lint"] == pins()["sphinx-lint"]
