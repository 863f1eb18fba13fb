"""The documentation is true: examples run, sessions print what they show, no name is missing.

Sphinx's doctest builder runs the examples inside the pages of `docs`.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import trio
from trio.testing import MockClock

import trio_turnstile
import trio_turnstile.clusters
import trio_turnstile.integrations.control
import trio_turnstile.integrations.dashboard
import trio_turnstile.integrations.opentelemetry
import trio_turnstile.integrations.prometheus
import trio_turnstile.integrations.rich
import trio_turnstile.integrations.statistics
import trio_turnstile.integrations.structlog
import trio_turnstile.limits
import trio_turnstile.simulation
import trio_turnstile.testing

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = (DOCS / "api.rst").read_text()
PACKAGE = Path(trio_turnstile.__file__).parent
MODULES = [
    trio_turnstile,
    trio_turnstile.limits,
    trio_turnstile.clusters,
    trio_turnstile.simulation,
    trio_turnstile.testing,
    trio_turnstile.integrations.rich,
    trio_turnstile.integrations.control,
    trio_turnstile.integrations.dashboard,
    trio_turnstile.integrations.statistics,
    trio_turnstile.integrations.prometheus,
    trio_turnstile.integrations.opentelemetry,
    trio_turnstile.integrations.structlog,
]
PUBLIC = {name: getattr(module, name) for module in reversed(MODULES) for name in dir(module)}
README = (ROOT / "README.md").read_text()

# ---- the reference ----


def public_names(module: ModuleType) -> list[str]:
    """Return the names that are imported from this module, and not from the package itself."""
    return sorted(
        name
        for name in module.__all__
        if module is trio_turnstile or name not in trio_turnstile.__all__
    )


def documented_names() -> dict[str, list[str]]:
    """Return the names that the reference has for each module, duplicates included."""
    names: dict[str, list[str]] = {}
    module = ""
    for directive, argument in re.findall(r"^\.\. ([a-z]+):: ([\w.]+)", REFERENCE, re.MULTILINE):
        if directive == "currentmodule":
            module = argument
        else:
            names.setdefault(module, []).append(argument)
    return names


def tabled_names() -> list[str]:
    """Return the names in the table at the head of the reference, each relative to the package."""
    table = REFERENCE.partition(".. list-table::")[2].partition("\nLimiters\n")[0]
    return re.findall(r"`([\w.]+)`", table)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference_once(module: ModuleType) -> None:
    """The API reference has each public name of a module once, and no other name."""
    assert public_names(module) == sorted(documented_names()[module.__name__])


def test_every_public_name_is_in_the_table_of_the_reference_once() -> None:
    """The table of names by purpose has each public name once, and no other name."""
    expected = [
        f"{module.__name__}.{name}".removeprefix("trio_turnstile.")
        for module in MODULES
        for name in public_names(module)
    ]
    assert sorted(tabled_names()) == sorted(expected)


def parameters(name: str) -> dict[str, bool]:
    """Return the parameters of a public callable, and whether each is keyword-only."""
    found: dict[str, bool] = {}
    for parameter in inspect.signature(PUBLIC[name]).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:  # the options of a step
            with pytest.raises(TypeError, match="its options are: ") as refused:
                outcome = PUBLIC[name](*[trio.sleep] * len(found), no_such_option=True)
                outcome.send(None)  # of an async function
            options = str(refused.value).rpartition(": ")[2].split(", ")
            found |= dict.fromkeys(options, True)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[parameter.name] = parameter.kind is parameter.KEYWORD_ONLY
    return found


def test_signatures_in_the_reference_are_the_real_ones() -> None:
    """A signature that the reference spells out has the parameters of the object."""
    spelled = re.findall(r"^\.\. auto\w+:: (\w+)(\(.+\).*)$", REFERENCE, re.MULTILINE)
    assert spelled
    for name, signature in spelled:
        function = ast.parse(f"def {name}{signature}: ...").body[0]
        assert isinstance(function, ast.FunctionDef)
        positional = [argument.arg for argument in function.args.args]
        keywords = [argument.arg for argument in function.args.kwonlyargs]
        real = parameters(name)
        assert positional == [parameter for parameter, keyword in real.items() if not keyword]
        assert sorted(keywords) == sorted(parameter for parameter in real if real[parameter])


# ---- the README ----


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("number", "output"),
    [
        (0, r"8 at a time, because of Decision\(.*\)\n"),
        (1, r"1000 stored, 0 retries\n"),
        (2, r"(notes.md 2\n|empty.md 0\n){2}2 completed, 0 failed\n"),
    ],
)
def test_readme_programs(
    number: int,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The programs of the README run unchanged and print what they should."""
    (tmp_path / "notes.md").write_text("two\nlines\n")
    (tmp_path / "empty.md").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trio, "run", partial(trio.run, clock=MockClock(autojump_threshold=0)))
    exec(compile(fenced("python")[number], "README.md", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(output, capsys.readouterr().out)


def test_readme_has_no_program_that_is_not_run() -> None:
    """The README has the three programs above and no other."""
    assert len(fenced("python")) == 3


def test_readme_has_the_line_that_ci_runs() -> None:
    """One line of the README installs and tests, in the form that CI looks for."""
    lines = re.findall(r"^pip install .*python -m pytest.*$", README, re.MULTILINE)
    assert lines == [
        "pip install '.[test]' && python -m pytest -n 2 --dist worksteal -m 'not slow'"
    ]


def test_readme_links_lead_somewhere() -> None:
    """Each page that the README links to exists."""
    pages = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert pages
    assert [page for page in pages if not (ROOT / page).is_file()] == []


# ---- sessions at a terminal ----


def sessions(page: Path) -> list[tuple[str, str]]:
    """Return each command that the page shows after a ``$``, and the output after it."""
    text = page.read_text()
    blocks = re.findall(
        r"^\.\. code-block:: console\n((?:\n| {3,}.*\n)+)", text, re.MULTILINE
    ) + re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    steps = []
    for block in blocks:
        lines = textwrap.dedent(block).replace("\\\n", "")
        for step in re.split(r"^\$ ", lines, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            steps.append((command, output.strip()))
    return steps


@pytest.fixture
def terminal(tmp_path: Path) -> partial[subprocess.CompletedProcess[str]]:
    """A shell in a directory with the examples, which runs this Python and this package."""
    for example in (DOCS / "examples").glob("*.py"):
        shutil.copy(example, tmp_path)
    commands = tmp_path / ".bin"
    commands.mkdir()
    for name, options in (("python", ""), ("turnstile", "-m trio_turnstile.cli")):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {options} "$@"\n')
        command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PACKAGE.parent),
    }
    return partial(
        subprocess.run,
        shell=True,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["index.rst", "tutorial.rst", "clusters.rst", "command.rst", "parallel.rst"]
)
def test_sessions(page: str, terminal: partial[subprocess.CompletedProcess[str]]) -> None:
    """Every command that a page shows succeeds and prints what the page shows."""
    for command, output in sessions(DOCS / page):
        assert (command, terminal(command).stdout.strip()) == (command, output)


@pytest.mark.slow
def test_readme_commands(
    tmp_path: Path, terminal: partial[subprocess.CompletedProcess[str]]
) -> None:
    """The command lines of the README do what they say, once the package is installed."""
    (tmp_path / "notes.txt").write_text("to be compressed")
    install, _, command = fenced("sh")[0].strip().partition(" && ")
    assert install == "pip install '.[cli]'"
    assert sorted(terminal(command).stdout.split("\n")) == ["", "hello a", "hello b", "hello c"]
    for command, _ in sessions(ROOT / "README.md"):
        terminal(command)
    assert (tmp_path / "notes.txt.gz").is_file()


# ---- words and pictures ----


def test_every_picture_is_on_a_page() -> None:
    """Each file of the directory of pictures is shown by a page, so none is forgotten."""
    pages = "".join(page.read_text() for page in [*DOCS.glob("*.rst"), *DOCS.glob("*.md")])
    pictures = {path.name for path in (DOCS / "images").iterdir()}
    assert pictures == pictures & set(re.findall(r"images/([\w.]+)", pages))


def test_the_glossary_has_the_words_of_the_documentation() -> None:
    """The glossary defines each word that a new reader meets, once."""
    defined = re.findall(r"^   (\S.*)$", (DOCS / "glossary.rst").read_text(), re.MULTILINE)
    assert len(defined) == len(set(defined))
    assert set(defined) >= {
        *("token", "borrower", "cap", "ceiling", "minimum", "hold", "bound", "decision"),
        *("watcher", "policy", "knee", "shadow mode", "load shedding", "token bucket"),
        *("item", "operation", "phase", "step", "stage", "window", "fate", "verdict"),
        *("back-pressure", "drain", "dead letter", "retry budget", "idempotent", "fan-out"),
    }
