"""The documentation is true: examples run, sessions give what they show, no name is left out.

The examples inside the pages of `docs` are run by Sphinx's doctest builder.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import runpy
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
import trio_turnstile.limits
import trio_turnstile.testing

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = (DOCS / "api.rst").read_text()
PACKAGE = Path(trio_turnstile.__file__).parent
PUBLIC = vars(trio_turnstile) | vars(trio_turnstile.testing) | vars(trio_turnstile.simulation)
README = (ROOT / "README.md").read_text()

# ---- the reference ----


def public_names(module: ModuleType) -> list[str]:
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    )


def documented_names() -> dict[str, list[str]]:
    """Return the names that each module has in the reference, doubles included."""
    names: dict[str, list[str]] = {}
    module = ""
    for directive, argument in re.findall(r"^\.\. ([a-z]+):: ([\w.]+)", REFERENCE, re.MULTILINE):
        if directive == "currentmodule":
            module = argument
        else:
            names.setdefault(module, []).append(argument)
    return names


@pytest.mark.parametrize(
    "module",
    [trio_turnstile, trio_turnstile.limits, trio_turnstile.simulation, trio_turnstile.testing],
)
def test_every_public_name_is_in_the_reference_once(module: ModuleType) -> None:
    """The API reference has each public name of a module, once, and no other."""
    names = public_names(module)
    if module is not trio_turnstile:
        names = [name for name in names if not hasattr(trio_turnstile, name)]
    assert names == sorted(documented_names()[module.__name__])


def test_signatures_in_the_reference_are_the_real_ones() -> None:
    """Where the reference spells a signature out, its parameters are those of the object."""
    spelled = re.findall(r"^\.\. auto\w+:: (\w+)(\(.+\).*)$", REFERENCE, re.MULTILINE)
    assert spelled
    for name, signature in spelled:
        function = ast.parse(f"def {name}{signature}: ...").body[0]
        assert isinstance(function, ast.FunctionDef)
        shown = {
            argument.arg: argument in function.args.kwonlyargs
            for argument in [*function.args.args, *function.args.kwonlyargs]
        }
        real = {
            parameter.name: parameter.kind is parameter.KEYWORD_ONLY
            for parameter in inspect.signature(PUBLIC[name]).parameters.values()
        }
        assert list(shown.items()) == list(real.items()), name


# ---- the README ----


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("number", "output"),
    [
        (0, r"8 at a time, because of Decision\(.*\)\n"),
        (1, r"(notes.md 2\n|empty.md 0\n){2}2 completed, 0 failed\n"),
    ],
)
def test_readme_programs(
    number: int,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The README's programs run as they stand and print what they are meant to."""
    (tmp_path / "notes.md").write_text("two\nlines\n")
    (tmp_path / "empty.md").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trio, "run", partial(trio.run, clock=MockClock(autojump_threshold=0)))
    exec(compile(fenced("python")[number], "README.md", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(output, capsys.readouterr().out)


def test_readme_has_no_program_that_is_not_run() -> None:
    """The two programs above are all that the README has."""
    assert len(fenced("python")) == 2


def test_readme_has_the_line_that_ci_runs() -> None:
    """One line of the README installs and tests, in the form in which CI looks for it."""
    lines = re.findall(r"^pip install .*python -m pytest$", README, re.MULTILINE)
    assert lines == ["pip install '.[test]' && python -m pytest"]


def test_readme_links_lead_somewhere() -> None:
    """Each page that the README links to is there."""
    pages = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert pages
    assert [page for page in pages if not (ROOT / page).is_file()] == []


# ---- sessions at a terminal ----


def sessions(page: Path) -> list[tuple[str, str]]:
    """Return each command that the page shows after a ``$``, with the output it shows."""
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
    """A shell in an empty directory, where the examples, this Python and this package are."""
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
@pytest.mark.parametrize("page", ["index.rst", "tutorial.rst", "command.rst"])
def test_sessions(page: str, terminal: partial[subprocess.CompletedProcess[str]]) -> None:
    """Every command that a page shows succeeds and prints what the page says it does."""
    for command, output in sessions(DOCS / page):
        assert (command, terminal(command).stdout.strip()) == (command, output)


@pytest.mark.slow
def test_readme_commands(
    tmp_path: Path, terminal: partial[subprocess.CompletedProcess[str]]
) -> None:
    """The README's command lines do what they say, once the package is installed."""
    (tmp_path / "notes.txt").write_text("to be compressed")
    install, _, command = fenced("sh")[0].strip().partition(" && ")
    assert install == "pip install '.[cli]'"
    assert sorted(terminal(command).stdout.split("\n")) == ["", "hello a", "hello b", "hello c"]
    for command, _ in sessions(ROOT / "README.md"):
        terminal(command)
    assert (tmp_path / "notes.txt.gz").is_file()


# ---- the floors ----


def test_floors_are_as_the_design_page_has_them() -> None:
    """The design page puts each module on the floor where the tests of the layout want it."""
    rows = re.findall(
        r"^   \* - (\d+)\n     - ``(\w+)``$", (DOCS / "design.rst").read_text(), re.MULTILINE
    )
    shown = [(module, int(floor)) for floor, module in rows]
    assert shown == sorted(shown, key=lambda row: row[1])
    layout = runpy.run_path(str(Path(__file__).with_name("test_layout.py")))
    parts = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py")}
    modules = {part.removesuffix(".py") for part in parts}
    assert dict(shown) == {module: layout["FLOOR_OF"][module] for module in modules}
