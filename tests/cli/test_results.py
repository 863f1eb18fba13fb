"""``--results DIR``: files that can be looked at while operations run, and afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_turnstile.cli._results import safe_name

Call = Callable[..., Any]


def read(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Return the files of the operations, by the names of their folders."""
    return {
        each.name: tuple((each / name).read_text() for name in ("seq", "stdout", "stderr"))  # type: ignore[misc]
        for each in folder.iterdir()
    }


@pytest.mark.parametrize("more", [[], ["--line-buffer"]])
def test_each_operation_has_a_folder(more: list[str], call: Call, here: Path) -> None:
    """It contains the output, and the number of the input."""
    work = "echo out {}; echo err {} >&2"
    result = call("run", "--results", "deep/dir", *more, "--work", work, "--", "d/a", "b c")
    assert sorted(result.lines) == ["out b c", "out d/a"]
    assert read(here / "deep" / "dir") == {
        "d+za": ("1\n", "out d/a\n", "err d/a\n"),
        "b c": ("2\n", "out b c\n", "err b c\n"),
    }


def test_the_files_grow_as_output_comes(call: Call, gate: Any, here: Path) -> None:
    """What a running operation has written can be read from its files."""

    def operate(watch: Any) -> None:
        gate.arrivals(1)
        file = here / "dir" / "a" / "stdout"
        watch.wait_until(lambda: file.read_text() == "begun\n")
        gate.let(1)

    work = f"echo begun; {gate.wait}; echo ended"
    result = call("run", "--results", "dir", "--work", work, "--", "a", operator=operate)
    assert result.out == "begun\nended\n"
    assert read(here / "dir")["a"][1] == "begun\nended\n"


def test_doubled_inputs_have_folders_of_their_own(call: Call, here: Path) -> None:
    """Two operations with one input have two folders; a later run uses the same folder again."""
    for _ in range(2):
        call("run", "-j1", "--results", "dir", "--work", "echo {#}", "--", "a", "a", "a+2")
    assert {name: files[1] for name, files in read(here / "dir").items()} == {
        "a": "1\n",
        "a+2": "2\n",
        "a++2": "3\n",
    }


def test_the_files_are_those_of_the_last_attempt(call: Call, here: Path) -> None:
    """The output of failed attempts is dropped."""
    work = "echo attempt $TURNSTILE_ATTEMPT; false"
    call("run", "--results", "dir", "--retries", "2", "--work", work, "--", "a")
    assert read(here / "dir")["a"][1] == "attempt 3\n"


def test_a_folder_that_cannot_be_made_fails_the_operation(call: Call, here: Path) -> None:
    """The operation fails with the reason, and the others go on."""
    (here / "dir").mkdir()
    (here / "dir" / "a").write_text("in the way")
    result = call("run", "--results", "dir", "--work", "echo", "--", "a", "b")
    assert (result.status, result.out) == (1, "b\n")
    assert "1 'a': prepare: " in result.err


def test_results_must_be_a_folder(call: Call, here: Path) -> None:
    """A file in the place of the folder is a usage error, and nothing runs."""
    (here / "file").touch()
    result = call("run", "--results", "file", "--work", "echo", "--", "a")
    assert (result.status, result.out) == (2, "")
    assert "--results must name a folder" in result.err


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)))
def test_different_inputs_have_different_names(texts: list[str]) -> None:
    """No name has a slash or is too long, and no two inputs have the same."""
    names = {text: safe_name(text) for text in texts}
    assert len({*names.values()}) == len(names)
    for name in names.values():
        assert name not in ("", ".", "..")
        assert "/" not in name
        assert len(name.encode()) <= 240
