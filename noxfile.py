"""The checks of the project: ``nox`` runs the checks of CI; ``nox -s NAME`` runs one session."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
PYTHONS = [
    classifier.rsplit(" ", 1)[1]
    for classifier in PROJECT["classifiers"]
    if classifier.startswith("Programming Language :: Python :: 3.")
]

CORE = ("-m", "not slow", "--ignore=tests/cli", "--ignore=tests/test_docs.py")
"""The quick tests of the library. The command in the README also runs those of ``turnstile``."""

LIBRARY = (*CORE, "--ignore=tests/integrations", "--ignore=tests/test_layout.py")
"""The tests that another version of Python, or of a dependency, could break."""

SIDE_BY_SIDE = ("-n", "2", "--dist", "worksteal")
"""Run the tests in two processes, which takes half the time on two cores."""

NO_CHECKPOINT = (
    "_engine/attempts",
    "_engine/buffer",
    "_engine/crew",
    "_engine/door",
    "_engine/pool",
    "_engine/read_ahead",
    "_engine/sources",
    "_limiting/census",
    "_limiting/meter",
    "_limiting/sack",
    "_phases/recorded",
    "_pipelines/batch_step",
    "_pipelines/fused",
    "_pipelines/inbox",
    "_pipelines/opening",
    "_pipelines/order",
    "_pipelines/run",
    "_pipelines/step_run",
    "cli",
    "clusters/_poller",
    "clusters/_submitting",
    "clusters/_throttling",
    "integrations/control/_app",
    "integrations/control/_bridge",
    "integrations/control/_charts",
    "integrations/control/_desk",
    "integrations/control/_feed",
    "integrations/control/_guard",
    "integrations/control/_messages",
    "integrations/control/_server",
    "integrations/control/_stream",
    "integrations/dashboard/_page",
    "integrations/prometheus/_collector",
    "integrations/prometheus/_reader",
    "integrations/statistics/_recorder",
)
"""Modules in which an async function need not checkpoint in every case.

Inside the engine, a checkpoint for every call would cost more than the work, and the
command is not a library. All functions that users call must checkpoint.
"""


def works(python: str) -> bool:
    """Return whether that Python is present; a shim for an absent Python does not count."""
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return True  # even if it is not on the path by this name, as on Windows
    command = shutil.which(f"python{python}")
    return (
        command is not None
        and not subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode
    )


PRESENT = [python for python in PYTHONS if works(python)]

nox.options.sessions = [
    "lint",
    "typing",
    "docs",
    "coverage",
    "wheel",
    *(f"tests_quick-{python}" for python in PRESENT[1:]),  # coverage runs them on the oldest Python
    "tests_oldest",
    "trio_typing",
]


def install_wheel(session: nox.Session, *requirements: str) -> None:
    """Build the wheel as for a release, and install it with what the tests need."""
    folder = Path(session.create_tmp()) / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    session.run(
        "python", "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", "."
    )
    (wheel,) = folder.glob("*.whl")
    session.install(f"{wheel}[test]", *requirements)
    # A reused environment (``nox -r``) may contain an older build of this version.
    session.install("--force-reinstall", "--no-deps", str(wheel))


def test_wheel(session: nox.Session, *command: str) -> None:
    """Run tests so that they import the installed wheel and not the checkout.

    So a missing ``py.typed`` or subpackage is noticed. ``pytest``, unlike ``python -m pytest``,
    does not look into the working directory. Neither does any Python that the tests start,
    because of PYTHONSAFEPATH.
    """
    environment = {
        "TURNSTILE_INSTALLED": "1",
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": None,
        "TMPDIR": None,  # nox sets a long one, and the path of a socket may have at most 107 bytes
    }
    session.run(*command, *session.posargs, env=environment)


@nox.session(python=PRESENT)
def tests(session: nox.Session) -> None:
    """Run all tests, on each Python that is present."""
    install_wheel(session)
    test_wheel(session, "pytest", *SIDE_BY_SIDE)


@nox.session(python=PRESENT)
def tests_quick(session: nox.Session) -> None:
    """Run the quick tests of the library, on each Python that is present."""
    install_wheel(session)
    test_wheel(session, "pytest", *LIBRARY, *SIDE_BY_SIDE)


@nox.session
def wheel(session: nox.Session) -> None:
    """Check what is in the wheel: all modules, the public names, the command."""
    install_wheel(session)
    test_wheel(
        session,
        "pytest",
        "tests/test_packaging.py",
        "tests/test_exports.py",
        "tests/cli/test_main.py",
    )


@nox.session
def tests_oldest(session: nox.Session) -> None:
    """Run the quick tests with the lowest dependencies that are declared."""
    lowest = [requirement.replace(">=", "==") for requirement in PROJECT["dependencies"]]
    install_wheel(session, *lowest)
    test_wheel(session, "pytest", *LIBRARY, *SIDE_BY_SIDE)


@nox.session
def soak(session: nox.Session) -> None:
    """Run the trials a hundred times as long: schedules, Ctrl-C at every point, kills, memory."""
    session.install("-e", ".[test]")
    environment = {"TURNSTILE_SOAK": "100"}
    tests = session.posargs or [
        "tests/soak",
        "tests/ledger/test_pipeline_schedules.py",
        "tests/pipelines/test_interrupts.py",
    ]
    patient = ("-o", "faulthandler_timeout=7200")  # seconds for Ctrl-C at every point of one run
    session.run("python", "-m", "pytest", *SIDE_BY_SIDE, *patient, *tests, env=environment)


@nox.session
def engines(session: nox.Session) -> None:
    """Run the tests of clusters with a real Slurm and Grid Engine; this needs Debian and root."""
    session.install("-e", ".[test]")
    environment = {"TURNSTILE_ENGINES": "1"}
    one_process_for_each = ("-n", "2", "--dist", "loadgroup")
    modules = ("test_engines", "test_engine_command", "test_engine_accounting")
    paths = (f"tests/clusters/{module}.py" for module in modules)
    tests = ("-rs", *one_process_for_each, *paths)
    session.run("python", "-m", "pytest", *tests, *session.posargs, env=environment)


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the quick tests, and check that they cover every line and branch of the core."""
    install_wheel(session, "coverage[toml]>=7.6", "pytest-cov>=6")
    quietly = ("--cov-report=", "--cov-fail-under=0")  # the report below lists the lines
    test_wheel(session, "pytest", *CORE, *SIDE_BY_SIDE, "--cov", *quietly)
    session.run("coverage", "report")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types: our own, and those that users of the package see."""
    session.install("-e", ".[test,typing]")
    session.run("mypy", "trio_turnstile", "tests/typing", "tests/lib")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "trio_turnstile", "--ignoreexternal")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and fragments, and that every public async function checkpoints."""
    session.install(".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("sphinx-lint", "--disable=horizontal-tab", "--ignore=docs/_build", "docs")
    session.run("towncrier", "build", "--draft", "--version=next", silent=True)
    package = Path("trio_turnstile")
    modules = {str(path) for path in package.rglob("*.py")}
    free = {module for module in modules if module.startswith(exempt_prefixes(package))}
    always = "--enable=ASYNC911,ASYNC912"
    session.run("flake8-async", f"{always},ASYNC910,ASYNC913", *sorted(modules - free))
    session.run("flake8-async", always, *sorted(free))


def exempt_prefixes(package: Path) -> tuple[str, ...]:
    """Return the prefixes of the modules in which not every case needs a checkpoint."""
    return tuple(str(package / name) for name in NO_CHECKPOINT)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the docs and run their examples; a warning is an error."""
    session.install(".[docs]")
    for builder in ("html", "doctest"):
        session.run("sphinx-build", "-W", "-n", "-b", builder, "docs", f"docs/_build/{builder}")


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks against other libraries, and check the goals of a release."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)
    session.run("python", "-m", "benchmarks.goals")


@nox.session
def trio_typing(session: nox.Session) -> None:
    """Check that the package works at run time beside trio-typing.

    trio-typing is in no other environment, because its ``trio-stubs`` shadow trio's own
    types, and type checking would break for everybody.
    """
    install_wheel(session, "trio-typing==0.10.0")
    test_wheel(session, "pytest", *LIBRARY, *SIDE_BY_SIDE)
