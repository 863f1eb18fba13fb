"""End to end: five hundred real files are compressed while the limit changes."""

from __future__ import annotations

import gzip
import os
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

FILES = 500

AWKWARD = [
    "plain",
    "two words",
    " space at both ends ",
    "-n",
    "--help",
    "it's",
    'a "quoted" one',
    "new\nline",
    "\n",
    "back\\slash",
    "$(touch oops)",
    "`touch oops`",
    "; touch oops",
    "a & b | c > d",
    "*?[x]",
    "~",
    "{}",
    "tab\there",
    "é ü 漢",
    "\udcff\udcfe",
    "#hash",
    "!bang",
    "=x",
]


@pytest.mark.slow
def test_five_hundred_files_are_compressed_under_a_moving_limit(
    spawn: Any, here: Path, tmp_path: Path
) -> None:
    """Names have spaces, quotes, newlines and leading dashes; every file comes back unchanged."""
    choice = random.Random(1)
    names = [f"{AWKWARD[number % len(AWKWARD)]}{number}" for number in range(FILES)]
    contents = {name: choice.randbytes(choice.randrange(20_000)) for name in names}
    for name, content in contents.items():
        (here / name).write_bytes(content)
    inputs = tmp_path / "inputs"
    inputs.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in names))

    run = spawn(
        *("run", "--limit", "4", "--hold", "0", "--null", "--arg-file", inputs),
        *("--joblog", tmp_path / "log", "--work", "gzip -k -- {}"),
    )
    retune(run.watch, tmp_path / "log")
    result = run.finish()

    assert (result.status, result.out) == (0, "")
    assert f"{FILES} completed, 0 failed" in result.err
    for name, content in contents.items():
        assert gzip.decompress((here / f"{name}.gz").read_bytes()) == content
    assert sorted(path.name for path in here.iterdir()) == sorted(
        [*names, *(f"{name}.gz" for name in names)]
    )
    assert (tmp_path / "log").read_bytes().count(b"\n") == 1 + FILES


def longer(log: Path, lines: int) -> bool:
    return log.exists() and log.read_bytes().count(b"\n") > lines


def retune(watch: Any, log: Path) -> None:
    """Lower and raise the limit, each time after some more files are done."""
    changes = [
        (signal.SIGUSR2, "limit 4 -> 2"),
        (signal.SIGUSR1, "limit 2 -> 3"),
        (signal.SIGUSR2, "limit 3 -> 1"),
        (signal.SIGUSR1, "limit 1 -> 2"),
    ]
    for number, (signum, said) in enumerate(changes, 1):
        watch.wait_until(partial(longer, log, 50 * number))
        watch.signal(signum)
        watch.err.wait_for(said)
