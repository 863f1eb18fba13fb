"""Inputs and placeholders beside GNU parallel: the same options give the same bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]


def is_gnu_parallel() -> bool:
    """Tell whether ``parallel`` is there, and not the one of moreutils."""
    if shutil.which("parallel") is None:
        return False
    run = subprocess.run(["parallel", "--version"], capture_output=True, text=True, check=False)
    return run.stdout.startswith("GNU parallel")


pytestmark = pytest.mark.skipif(not is_gnu_parallel(), reason="GNU parallel is not installed")

SHOW = "printf '[%s]'"
"""With a blank before the ``;`` after it, or GNU parallel repeats the ``;`` for each input."""


@pytest.fixture(autouse=True)
def _files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))  # parallel keeps files there
    Path("ab").write_text("a\nb\n")
    Path("cde").write_text("c c\nd'd\ne\n")
    Path("csv").write_text("n,m o\n1 , 2\n3,,5,\n\n")
    Path("table").write_text("name,size\nx/a.gz, 10\nb.tar.gz,20\n")
    Path("empty").write_text("")


@pytest.mark.parametrize(
    ("command", "options", "sources"),
    [
        ("{}", "", "::: a|b c|'|$(x)|"),
        ("{1} {2}", "", "::: a b|c ::: d|e|f"),
        ("{}", "", "::: a b|c ::: d|e ::: f|g"),
        ("{}", "", "::: a b|c :::+ d|e|f"),
        ("{1} {2} {3}", "", "::: a|b ::: c|d :::+ e|f"),
        ("{1} {2} {3}", "", "::: a|b :::+ c|d ::: e|f"),
        ("{2} {1}", "", ":::: ab|cde"),
        ("{2} {1}", "", ":::: ab ::::+ cde"),
        ("{2} {1} {3}", "", "::: x|y :::: ab ::::+ cde"),
        ("{2} {1} {3}", "", ":::: ab ::: x|y :::+ z|w"),
        ("{2} {1}", "-a ab -a cde", ""),
        ("{2} {1}", "-a ab", "::: x|y"),
        ("{}", "-a empty", ""),
        ("{1} {1.} {1/} {1//} {1/.}", "", "::: a/b.c/d.tar.gz|/x|y/|z."),
        ("{-1} {-2} {-1/} {-2.}", "", "::: a/b.c ::: d/e.f"),
        ("{.} {/} {//} {/.}", "", "::: a/b.c|d ::: e/f.g"),
        ("{#} {}", "", "::: a|b ::: c|d"),
        ("x{1}:x{2}:x{3}:x{4}:x{-1}", "--colsep , -a csv", ""),
        ("{}", "--colsep , -a csv", ""),
        ("{1} {2}", "--colsep [,;]+ ", "::: a,;b|c;d"),
        ("{1} {2} {3}", "--colsep ,", "::: a,b|c,d ::: e,f"),
        ("{name} {size} {name.} {name/} {2}", "--colsep , --header -a table", ""),
        ("{f} {g} {f/.}", "--header", "::: f|d/a.x|b ::: g|c|d"),
        ("{}", "-N 2", "::: a|b c|d|e|f"),
        ("x{1}:x{2}:x{-1} {#}", "-N 2", "::: a|b c|d|e|f"),
        ("{2.} {1/}", "--max-args 3", "::: a/b.c|d/e.f|g"),
        ("{}", "-N 2 -a cde", ""),
        ("{}", "-d , -a csv", ""),
        ("{}", r"-d \t -a csv", ""),
        ("{}", r"-d \n -a ab", ""),
        ("{}", "-d ,5 -a csv", ""),
        ("{%}", "", "::: a|b|c"),
    ],
)
def test_the_same_options_give_the_same_bytes(
    command: str, options: str, sources: str, call: Call
) -> None:
    """Inputs, their order, columns and placeholders are as with GNU parallel."""
    words = words_of(sources)
    work = f"{SHOW} {command} ; echo"
    theirs = options.replace("--header", "--header :").split()
    parallel = subprocess.run(
        ["parallel", "--will-cite", "-j1", "-k", *theirs, work, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    ours = call("run", "-q", "-j1", *options.split(), "--work", work, *words)
    assert ours.out.encode(errors="surrogateescape") == parallel.stdout
    assert ours.status == parallel.returncode == 0


def words_of(sources: str) -> list[str]:
    """Return the marks and the inputs after them; a bar stands between two inputs."""
    parts = re.split(r"(?:^| )(:{3,4}\+?) ", sources)[1:]
    marks, inputs = parts[::2], parts[1::2]
    return [
        word
        for mark, given in zip(marks, inputs, strict=True)
        for word in (mark, *given.split("|"))
    ]


def test_a_shuffled_run_has_the_same_inputs(call: Call) -> None:
    """In another order; numbers count the operations as they start."""
    inputs = list(map(str, range(50)))
    result = call("run", "-q", "-j1", "--shuf", "--work", "echo {#} {}", ":::", *inputs)
    numbers, values = zip(*(line.split() for line in result.lines), strict=True)
    assert list(numbers) == [str(number) for number in range(1, 51)]
    assert sorted(values, key=int) == inputs
    assert list(values) != inputs
