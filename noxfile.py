"""The checks of the project: ``nox`` runs what CI needs; ``nox -s NAME`` runs one."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "typing", "docs", "coverage", "tests_oldest", "trio_typing"]
nox.options.error_on_missing_interpreters = False

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
PYTHONS = [
    classifier.rsplit(" ", 1)[1]
    for classifier in PROJECT["classifiers"]
    if classifier.startswith("Programming Language :: Python :: 3.")
]

CORE = ("-m", "not slow", "--ignore=tests/cli", "--ignore=tests/test_docs.py")
"""What is asked of the core, and quick: all else is run once, by the README's command."""


def works(python: str) -> bool:
    """Tell whether that Python is present; a shim for an absent one does not count."""
    command = shutil.which(f"python{python}")
    return command is not None and not subprocess.run([command, "-c", ""], check=False).returncode


@nox.session(python=[python for python in PYTHONS if works(python)])
def tests(session: nox.Session) -> None:
    """Run the tests, on each Python that is present."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def tests_oldest(session: nox.Session) -> None:
    """Run the tests of the core with the lowest dependencies that are declared."""
    lowest = [requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]]
    session.install(".[test]", *lowest)
    session.run("python", "-m", "pytest", *CORE, *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests, and ask that every line and branch of the core was taken."""
    session.install("-e", ".[test]", "coverage[toml]>=7.6")
    session.run("coverage", "run", "-m", "pytest", *CORE, *session.posargs)
    session.run("coverage", "report")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types: ours, and those that a user of the package sees."""
    session.install("-e", ".[test]", "mypy>=1.18", "pyright>=1.1.400", "types-psutil")
    session.run("mypy", "trio_turnstile", "tests/typing")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "trio_turnstile", "--ignoreexternal")


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style, and that every public async function checkpoints."""
    session.install("ruff>=0.14", "flake8-async>=25.7")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    modules = {str(path) for path in Path("trio_turnstile").rglob("*.py")}
    # Inside the engine a checkpoint for every call would cost more than the work, and
    # the command is no library. The users' side of it all has to checkpoint.
    inner = ("attempts", "batching", "flow", "inbox", "order", "segment", "sources", "stage")
    engine = {f"trio_turnstile/_{name}.py" for name in inner}
    engine |= {str(path) for path in Path("trio_turnstile/cli").glob("*.py")}
    always = "--enable=ASYNC911,ASYNC912"
    session.run("flake8-async", f"{always},ASYNC910,ASYNC913", *sorted(modules - engine))
    session.run("flake8-async", always, *sorted(engine))


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs and run their examples; a warning is an error."""
    session.install(".[docs]")
    for builder in ("html", "doctest"):
        session.run("sphinx-build", "-W", "-n", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks, ours and the peers' in one run."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def trio_typing(session: nox.Session) -> None:
    """Prove that the package works at run time beside trio-typing.

    It is in no other environment: its ``trio-stubs`` shadow trio's own types, and
    type checking would break for everybody.
    """
    session.install(".[test]", "trio-typing==0.10.0")
    session.run("python", "-m", "pytest", *CORE)
